"""Errors of disks and buckets, in sentences that name the file or object and say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Literal

from synapseclr.errors import OutputError, SynapseCLRError, UnreachableError
from synapseclr.storage.addresses import is_local

_CLIENTS = ("requests", "urllib3", "aiohttp", "google", "gcsfs", "botocore", "aiobotocore")
_ABOUT_THE_OBJECT = (404, 416)


@contextmanager
def explained(
    address: str | PathLike[str], what: Literal["read", "written", "listed", "deleted"] = "read"
) -> Iterator[None]:
    """Name the file or object in what the operating system or a bucket's client complains about, and say what to do.

    Clients of object stores try again by themselves, with growing pauses, before they raise.

    Args:
        address: Path or URL.
        what: What is being done with it.

    Raises:
        OutputError: If a local file or folder cannot be written.
        UnreachableError: If a store does not answer, or refuses access. What concerns the object alone, such as that
            there is none, is raised as it is.
    """
    try:
        yield
    except SynapseCLRError:
        raise
    except Exception as error:
        if not is_local(address):
            if is_unreachable(error):
                raise UnreachableError(unreachable(str(address), error, what)) from error
        elif what == "written" and isinstance(error, OSError) and error.errno is not None:
            raise OutputError(
                f"{address} cannot be written ({error.strerror or error}). What lay there before is untouched. Make "
                "room or see to the rights of the folder, and run the same command again."
            ) from error
        raise


def is_unreachable(error: BaseException | None) -> bool:
    """Tell whether an error concerns the connection or the access, and so everything in the same store.

    Args:
        error: As a client of an object store raised it; its causes are looked at too.
    """
    while error is not None:
        status = getattr(error, "code", None) or getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, FileNotFoundError) or status in _ABOUT_THE_OBJECT:
            return False
        is_network = isinstance(error, (ConnectionError, TimeoutError, PermissionError))
        is_forbidden = type(error) is OSError and str(error).startswith("Forbidden")  # gcsfs, of status 403
        if is_network or is_forbidden or type(error).__module__.partition(".")[0] in _CLIENTS:
            return True
        error = error.__cause__
    return False


def unreachable(address: str, error: BaseException, what: str = "read") -> str:
    """Word the message of an :class:`UnreachableError`."""
    reason = (str(error).strip().splitlines() or ["no message"])[0].partition(": {")[0]
    return (
        f"{address} cannot be {what} ({type(error).__name__}: {reason}). Check the bucket's name, your credentials "
        "(docs/data.md) and the connection, and run the same command again: it continues."
    )
