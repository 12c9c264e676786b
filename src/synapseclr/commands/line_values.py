"""Values given on the command line: lists have commas of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

_CLOSING = {"[": "]", "{": "}", "(": ")"}


def split_at_commas(text: str) -> list[str]:
    """Split at the commas that are outside of brackets and quotes; empty parts are left out.

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


def parse_parameters(context: click.Context, option: click.Parameter, value: Any) -> dict[str, Any]:
    """Read ``--params``; the callback of its option. As Kedro's own, but that a value may be a list.

    Args:
        context: Of the command.
        option: ``--params``.
        value: Its text, ``name=value,name=value``; values are YAML. Or parameters of ``--config``, taken as they are.

    Returns:
        Nested parameters.

    Raises:
        click.UsageError: If an item is no ``name=value``, or a bracket is not closed.
    """
    from omegaconf import OmegaConf

    if isinstance(value, dict):
        return value
    try:
        items = split_at_commas(value)
    except ValueError as error:
        context.fail(f"--params: {error}.")
    for item in items:
        name, sign, _ = item.partition("=")
        if not sign or not name.strip():
            context.fail(
                f"--params has '{item}', expected name=value. Separate several by commas; a list is name=[4,4,40]."
            )
    pairs = (item.partition("=") for item in items)
    parsed = OmegaConf.to_container(OmegaConf.from_dotlist([f"{name.strip()}={text}" for name, _, text in pairs]))
    return {str(name): content for name, content in parsed.items()} if isinstance(parsed, dict) else {}


def accept_lists(command: click.Command) -> None:
    """Let ``--params`` of a command of Kedro's have lists, which Kedro 1.7 splits at their commas."""
    for option in command.params:
        if option.name == "params":
            option.callback = parse_parameters
