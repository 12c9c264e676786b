"""Errors that say what was wrong, where, what was expected and what to do."""

from synapseclr.privacy import mask_secrets


class SynapseCLRError(ValueError):
    """Base of every error that a user's data or configuration can cause.

    Passwords in the message, as in the address of a bucket or server, are masked.
    """

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(mask_secrets(argument) if isinstance(argument, str) else argument for argument in arguments))


class VolumeError(SynapseCLRError):
    """A volume is missing, unreadable, or does not fit the request."""


class DecoderError(VolumeError):
    """A volume's blocks are encoded in a way that nothing installed here decodes: none of them can be read."""


class UnreachableError(SynapseCLRError, OSError):
    """A store does not answer, or refuses access: what was asked of it may well be there."""


class TableError(SynapseCLRError):
    """A table lacks a column, is empty, or holds values that cannot be used."""


class OutputError(SynapseCLRError):
    """What a run has written, or is to write, is cut short, has changed, or cannot be written."""


class ConfigurationError(SynapseCLRError):
    """A parameter is unknown, ill-typed, or contradicts another one."""


class InputError(SynapseCLRError):
    """Tables and volumes cannot belong together, or cannot be read: nothing was cut."""


class CheckpointError(SynapseCLRError):
    """A checkpoint or weights file does not fit the model that it is meant for."""


class TrainingDivergedError(SynapseCLRError):
    """A training has collapsed, or its loss or weights are no longer finite."""


class WorkerError(SynapseCLRError):
    """One of several processes that work together was killed, or has lost the others."""


class TrainingInterrupted(SystemExit):
    """A signal stopped a training after a checkpoint was written; running it again continues it.

    Ends the process with 128 + the signal's number, as a shell reports it (SIGTERM: 143, SIGINT: 130), unless caught.

    Args:
        signal_number: Of the signal.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(128 + signal_number)

    def __reduce__(self) -> tuple[type, tuple[int]]:
        """Pickle by the signal's number, not by the exit status that it gives."""
        return type(self), (int(self.code or 0) - 128,)
