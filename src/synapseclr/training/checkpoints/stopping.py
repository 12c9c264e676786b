"""Stopping on a signal: the step in progress is finished and a checkpoint written first."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Takes note of SIGTERM (preemption) and SIGINT (Ctrl-C).

    A second Ctrl-C stops at once, without a checkpoint. Handlers can only be set in a process's main thread; elsewhere
    (a notebook's or a Kedro ThreadRunner's worker thread) the signals keep their meaning.

    Attributes:
        signal: The signal that was received, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def listen(self) -> None:
        """Take over the two signals. Lightning gives them back when the training ends, as it does with its own."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is None:
            self.signal = signal.Signals(number)
            logger.warning("%s: the training stops after this step and writes a checkpoint.", self.signal.name)


def ignore_stop_signals(_worker: int) -> None:
    """Let a data worker survive the signal that its whole process group gets, so that the step can be finished.

    A second SIGTERM ends the worker: that is how the training process ends its workers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: signal.signal(signal.SIGTERM, signal.SIG_DFL))
