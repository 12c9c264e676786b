"""A folder through which worker processes speak to the process that launched them on the same machine.

Files need no lock and no reader: a worker that is killed in the middle of a line leaves the others' words intact.
"""

from __future__ import annotations

import json
import logging
import pickle
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synapseclr.errors import SynapseCLRError, TrainingInterrupted


@dataclass(frozen=True)
class RaisedError:
    """What a worker raised.

    Attributes:
        rank: Of the worker among all workers of the job.
        time_s: When, in seconds of the clock that all processes of a machine share and nobody sets.
        error: The exception; its notes hold the worker's traceback.
    """

    rank: int
    time_s: float
    error: BaseException


@dataclass
class Mailbox:
    """Job to the workers; reports, log records, errors and the result from them.

    Attributes:
        folder: A folder that only this user can write to.
    """

    folder: str
    _read: dict[str, int] = field(default_factory=dict)

    def put_job(self, job: Any) -> bool:
        """Leave what the workers are to do.

        Returns:
            Whether it has parts that the program's main module defines.

        Raises:
            TypeError: If it cannot be pickled.
        """
        try:
            data = pickle.dumps(job)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(f"What the workers are to do cannot be sent to them: {error}") from error
        self._write("job.pickle", data)
        return b"__main__" in data

    def job(self) -> Any:
        """What the workers are to do."""
        return pickle.loads(Path(self.folder, "job.pickle").read_bytes())

    def put_result(self, result: Any) -> None:
        """Leave the result."""
        self._write("result.pickle", pickle.dumps(result))

    def result(self) -> Any:
        """The result that a worker left."""
        return pickle.loads(Path(self.folder, "result.pickle").read_bytes())

    def post(self, rank: int, kind: str, *content: Any) -> None:
        """Add one line to a worker's messages; the content must be what JSON can hold."""
        with Path(self.folder, f"messages-{rank}.jsonl").open("a") as file:
            file.write(json.dumps([kind, *content]) + "\n")

    def collect(self) -> list[list[Any]]:
        """The messages, as [kind, content, ...], that came since the last call."""
        messages: list[list[Any]] = []
        for path in sorted(Path(self.folder).glob("messages-*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._read.get(path.name, 0))
                whole = file.read().rpartition(b"\n")[0]
            self._read[path.name] = self._read.get(path.name, 0) + (len(whole) + 1 if whole else 0)
            messages += [json.loads(line) for line in whole.splitlines()]
        return messages

    def put_error(self, rank: int, error: BaseException) -> None:
        """Leave an exception; one that cannot be pickled, or cannot be made again, as its text."""
        if not isinstance(error, SynapseCLRError | TrainingInterrupted):
            error.add_note(f"In the worker of rank {rank}:\n{''.join(traceback.format_exception(error))}")
        try:
            data = pickle.dumps((rank, time.monotonic(), error))
            pickle.loads(data)
        except Exception:
            told = RuntimeError(f"{type(error).__name__}: {error}")
            for note in getattr(error, "__notes__", ()):
                told.add_note(note)
            data = pickle.dumps((rank, time.monotonic(), told))
        self._write(f"error-{rank}.pickle", data)

    def errors(self) -> list[RaisedError]:
        """What the workers raised, earliest first."""
        found = [pickle.loads(path.read_bytes()) for path in Path(self.folder).glob("error-*.pickle")]
        return sorted((RaisedError(*content) for content in found), key=lambda error: error.time_s)

    def _write(self, name: str, data: bytes) -> None:
        partial = Path(self.folder, f"{name}.partial")
        partial.write_bytes(data)
        partial.replace(Path(self.folder, name))


class MailboxHandler(logging.Handler):
    """Hands a worker's log records to the launching process, whose handlers show them."""

    def __init__(self, mailbox: Mailbox, rank: int, level: int) -> None:
        super().__init__(level)
        self._mailbox = mailbox
        self._rank = rank

    def emit(self, record: logging.LogRecord) -> None:
        """Post the record's text."""
        try:
            self._mailbox.post(self._rank, "log", record.name, record.levelno, record.getMessage())
        except Exception:
            self.handleError(record)
