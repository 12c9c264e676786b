"""Errors that say what was wrong, where, what was expected and what to do."""


class SynapseCLRError(ValueError):
    """Base of every error that a user's data or configuration can cause."""


class VolumeError(SynapseCLRError):
    """A volume is missing, unreadable, or does not fit the request."""


class TableError(SynapseCLRError):
    """A table lacks a column, is empty, or holds values that cannot be used."""


class ConfigurationError(SynapseCLRError):
    """A parameter is unknown, ill-typed, or contradicts another one."""


class CheckpointError(SynapseCLRError):
    """A checkpoint or weights file does not fit the model that it is meant for."""
