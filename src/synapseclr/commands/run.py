"""``kedro run`` with lists in ``--params``, short node names and errors in sentences; ``--params`` of all commands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from synapseclr.errors import ConfigurationError

if TYPE_CHECKING:
    from kedro.io import DataCatalog

_CLOSING = {"[": "]", "{": "}", "(": ")"}


def split_at_commas(text: str) -> list[str]:
    """Split at the commas outside of brackets and quotes; empty parts are left out.

    Args:
        text: Such as ``preprocessing.position_voxel_size_nm=[4,4,40],data_root=data/mine``.

    Raises:
        ValueError: If a bracket or quote is not closed, or closed without having been opened.
    """
    return [part.strip() for part in _parts(text) if part.strip()]


def _parts(text: str) -> Iterator[str]:
    expected: list[str] = []  # what closes the brackets that are open, and a quote
    start = 0
    for place, character in enumerate(text):
        if expected and expected[-1] in "'\"":
            if character == expected[-1]:
                expected.pop()
        elif character in "'\"" and text[place - 1 : place] in ("", "=", ",", " ", *_CLOSING):
            expected.append(character)  # elsewhere it is an apostrophe
        elif character in _CLOSING:
            expected.append(_CLOSING[character])
        elif expected and character == expected[-1]:
            expected.pop()
        elif character in _CLOSING.values():
            raise ValueError(f"'{text}' has a {character} that does not belong to a bracket before it")
        elif character == "," and not expected:
            yield text[start:place]
            start = place + 1
    if expected:
        raise ValueError(f"'{text}' lacks a closing {expected[-1]}")
    yield text[start:]


def parse_assignments(text: str, option: str = "--params") -> dict[str, str]:
    """Read ``name=value,name=value``; values stay text.

    Args:
        text: What the option was given.
        option: Its name, for errors.

    Raises:
        ConfigurationError: If an item is no ``name=value``, or a bracket is not closed.
    """
    pairs = [item.partition("=") for item in split_values(text, option)]
    if wrong := [name + text for name, sign, text in pairs if not sign or not name.strip()]:
        raise ConfigurationError(
            f"{option} has '{wrong[0]}', expected name=value. Separate several by commas; a list is name=[4,4,40]."
        )
    return {name.strip(): value.strip() for name, _, value in pairs}


def split_values(text: str, option: str) -> list[str]:
    """``split_at_commas`` of an option's text.

    Raises:
        ConfigurationError: If a bracket or quote is not closed, or closed without having been opened.
    """
    try:
        return split_at_commas(text)
    except ValueError as error:
        raise ConfigurationError(f"{option}: {error}.") from error


def nested_parameters(text: str) -> dict[str, Any]:
    """Read ``name.name=value,name=value`` as Kedro does: nested, with values in YAML; a value may be a list.

    Raises:
        ConfigurationError: If an item is no ``name=value``, or a bracket is not closed.
    """
    from omegaconf import OmegaConf

    assigned = parse_assignments(text)
    parsed = OmegaConf.to_container(OmegaConf.from_dotlist([f"{name}={value}" for name, value in assigned.items()]))
    return {str(name): value for name, value in parsed.items()} if isinstance(parsed, dict) else {}


def open_project() -> Path:
    """Prepare Kedro for the project in which the working directory lies.

    Returns:
        Its folder.

    Raises:
        ConfigurationError: If there is none.
    """
    from kedro.utils import find_kedro_project

    project = find_kedro_project(Path.cwd())
    if project is None:
        raise ConfigurationError(
            f"Neither {Path.cwd()} nor a folder above it is a project. Go to one, or write one: synapseclr new FOLDER."
        )
    from kedro.framework.startup import bootstrap_project

    return bootstrap_project(project).project_path


@contextmanager
def opened_catalog(env: str | None, params: str) -> Iterator[DataCatalog]:
    """Open the project's catalog in a session that MLflow does not see, for commands that only look at outputs.

    Args:
        env: Configuration environment.
        params: Text of ``--params``.
    """
    from kedro.framework.session import KedroSession

    from synapseclr.hooks import untracked

    project = open_project()  # done already by the program kedro, but not by synapseclr or in a script
    with untracked(), KedroSession.create(project, env=env, runtime_params=nested_parameters(params)) as session:
        yield cast(Any, session).load_context().catalog


def accept_lists(command: click.Command) -> None:
    """Let ``--params`` of a Kedro command take lists, which Kedro 1.7 splits at their commas."""

    def parse(context: click.Context, option: click.Parameter, value: Any) -> dict[str, Any]:
        if isinstance(value, dict):  # of --config
            return value
        try:
            return nested_parameters(value)
        except ConfigurationError as error:
            context.fail(str(error))

    for option in command.params:
        if option.name == "params":
            option.callback = parse


_NODE_OPTIONS = ("node_names", "from_nodes", "to_nodes")


def with_namespaces(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Write names of nodes, or of namespaces, in full: ``train_encoder`` is ``pretraining.train_encoder``.

    Args:
        names: As given, with the pipeline's namespace or without it.
        known: The full names.

    Returns:
        The full names of those that are known, and the others as they are, for Kedro to name in its error.
    """
    by_short_name: dict[str, list[str]] = {}
    for name in sorted(set(known)):
        by_short_name.setdefault(name, []).append(name)
        by_short_name.setdefault(name.partition(".")[2], []).append(name)
    return [full for name in names for full in by_short_name.get(name, [name])]


def _in_full(options: dict[str, Any]) -> dict[str, Any]:
    """Options of ``kedro run``, with the names of nodes and namespaces in full."""
    if not any(options.get(option) for option in (*_NODE_OPTIONS, "namespaces")):
        return options
    from kedro.framework.project import pipelines

    run = [options["pipeline"]] if options.get("pipeline") else options.get("pipelines") or ["__default__"]
    nodes = [node for name in run if name in pipelines for node in pipelines[name].nodes]
    full = {option: with_namespaces(options[option], (node.name for node in nodes)) for option in _NODE_OPTIONS}
    namespaces = (prefix for node in nodes for prefix in node.namespace_prefixes)
    return options | full | {"namespaces": with_namespaces(options["namespaces"], namespaces)}


def make_run_command() -> click.Command:
    """Make Kedro's ``run`` print errors that a user can fix as a sentence; ``--verbose`` gives the traceback."""
    from kedro.framework.cli.project import run as kedro_run

    accept_lists(kedro_run)

    def run(verbose: bool, **options: Any) -> Any:
        from synapseclr.hooks.error_sentences import in_sentences

        with nullcontext() if verbose else in_sentences("(--verbose shows the traceback.)"):
            return kedro_run.callback(**_in_full(options))  # type: ignore[misc]

    option = click.Option(["--verbose"], is_flag=True, help="Show the traceback of every error.")
    return click.Command("run", callback=run, params=[*kedro_run.params, option], help=kedro_run.help)
