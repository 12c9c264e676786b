"""Errors that a user can cause, as one or two sentences instead of a traceback."""

from __future__ import annotations

import difflib
import re
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from synapseclr.errors import SynapseCLRError

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

_MOST_NAMED, _MOST_LISTED = 3, 30
_KEDRO_LOOKS_UP_NAMES = ("kedro/pipeline/pipeline.py", "kedro/framework/session/")
_MISSING_NODES = re.compile(r"does not contain (nodes|datasets) named \[(.*?)\]")
_MISSING_PIPELINE = re.compile(r"Failed to find the pipeline named '(.*?)'")
_LOADING = re.compile(r"(\S+): Failed while (loading|saving) data")
_IN_RESOLVER = re.compile(r"ConfigurationError raised while resolving interpolation: (.*)")


def sentence_of(error: BaseException) -> str | None:
    """The sentence of an error for a user, without its traceback.

    Args:
        error: Raised by a Kedro session.

    Returns:
        One or two sentences; None if the error does not come from a user's data or configuration, so that its traceback
        is needed.
    """
    from kedro.io import DatasetError
    from kedro.validation.exceptions import ParameterValidationError
    from omegaconf.errors import OmegaConfBaseException

    for cause in _causes(error):
        if isinstance(cause, SynapseCLRError):
            return str(cause)
    if isinstance(error, OmegaConfBaseException):
        resolved = _IN_RESOLVER.search(str(error))
        return resolved[1] if resolved else f"The configuration cannot be read: {_one_line(error)}"
    if isinstance(error, DatasetError) and (failed := _LOADING.match(str(error))):
        what = "loaded" if failed[2] == "loading" else "saved"
        return f"{failed[1]} cannot be {what}: {str(error).strip().splitlines()[-1]}."
    if isinstance(error, (DatasetError, ParameterValidationError)):
        return _one_line(error)
    places = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, ValueError) and places and any(part in places[-1] for part in _KEDRO_LOOKS_UP_NAMES):
        return _unknown_name(error)
    return None


@contextmanager
def in_sentences(advice: str = "") -> Iterator[None]:
    """End a command with what :func:`sentence_of` says of an error, and status 1; other errors pass.

    Args:
        advice: A hint to add, such as how to see the traceback.
    """
    try:
        yield
    except click.ClickException:
        raise
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is None:
            raise
        raise click.ClickException(f"{sentence} {advice}".strip()) from error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A suggestion, and all names: " Did you mean x? Known are x, y."."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    hint = f" Did you mean {close[0]}?" if close else ""
    if len(names) > _MOST_LISTED and close:
        return f"{hint} docs/configuration.md lists all."
    return f"{hint} Known are {', '.join(names)}."


def parameter_sentences(name: str, model: type[BaseModel], error: ValidationError) -> str:
    """Faults in the values of a parameter, by dotted names.

    Args:
        name: The parameter.
        model: The model of its value.
        error: The error that the model raised.
    """
    texts = []
    for found in error.errors()[:_MOST_NAMED]:
        path = [str(part) for part in found["loc"]]
        dotted = ".".join((name, *path))
        if found["type"] == "extra_forbidden":
            known = _fields(model, path[:-1])
            hint = did_you_mean(path[-1], known) if known else ""
            texts.append(f"{'.'.join((name, *path[:-1]))} has no parameter '{path[-1]}'.{hint}")
        elif not path:
            texts.append(f"The parameter {name} cannot be used: {_plain(found)}.")
        else:
            texts.append(f"The parameter {dotted} is {found['input']!r}: {_plain(found)}.")
    return " ".join(texts)


def _plain(found: Any) -> str:
    message = str(found["msg"]).removeprefix("Value error, ").rstrip(".")
    return message[:1].lower() + message[1:]


def _fields(model: Any, path: list[str]) -> list[str]:
    """Names of the fields of the model at a path below another; none if there is no model."""
    for part in path:
        field = getattr(model, "model_fields", {}).get(part)
        model = field.annotation if field is not None else None
    return list(getattr(model, "model_fields", {}))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _unknown_name(error: ValueError) -> str:
    """Rewrite Kedro's error about an unknown name, with the known names."""
    from kedro.framework.project import pipelines

    text = _one_line(error)
    if missing := _MISSING_PIPELINE.search(text):
        return f"There is no pipeline '{missing[1]}'.{did_you_mean(missing[1], pipelines)}"
    if missing := _MISSING_NODES.search(text):
        name = missing[2].split(",")[0].strip("' ")
        kind = missing[1].removesuffix("s")
        whole = pipelines["__default__"]
        names = [node.name.partition(".")[2] for node in whole.nodes]  # as the command line takes them
        known = names if kind == "node" else whole.datasets()
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {close[0]}?" if close else f" `kedro registry describe` lists the {kind}s."
        return f"This pipeline has no {kind} '{name}'.{hint}"
    return text
