"""Telling a store that cannot be reached from an object that is missing or damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from synapseclr.errors import SynapseCLRError, UnreachableError

_CLIENTS = ("requests", "urllib3", "aiohttp", "google", "gcsfs", "botocore", "aiobotocore")
_ABOUT_THE_OBJECT = (404, 416)


def is_unreachable(error: BaseException | None) -> bool:
    """Whether an error concerns the connection or the access, and so everything in the same store.

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


@contextmanager
def reaching(address: str, what: str = "read") -> Iterator[None]:
    """Name the object, and what can be done, in errors of the connection or the access.

    Clients of object stores try again by themselves, with growing pauses, before they raise.

    Args:
        address: URL of the object, for the message.
        what: What was to be done with it.

    Raises:
        UnreachableError: Instead of what the client raises.
    """
    try:
        yield
    except SynapseCLRError:
        raise
    except Exception as error:
        if not is_unreachable(error):
            raise
        raise UnreachableError(unreachable(address, error, what)) from error


def unreachable(address: str, error: BaseException, what: str = "read") -> str:
    """The message of an :class:`UnreachableError`."""
    reason = (str(error).strip().splitlines() or ["no message"])[0].partition(": {")[0]
    return (
        f"{address} cannot be {what} ({type(error).__name__}: {reason}). Check the bucket's name, your credentials "
        "(docs/data.md) and the connection, and run the same command again: it continues."
    )
