"""Warnings about what an analysis passes over: one sentence a reason, not one a trait."""

from __future__ import annotations

import re
from collections.abc import Iterable

from synapseclr.volumes.table_schema import some

ANNOTATE = (
    "Annotate synapses of more neurites and run `preprocessing` and later pipelines again, or leave such traits out of "
    "the parameter `traits`."
)
"""Advice where a trait has too few annotations."""

_NAMED = 6
_DETAIL = re.compile(r"'[^']*'|\d+")  # names in quotes, and numbers


def passed_over(
    reasons: Iterable[tuple[str, str]], outcome: str, advice: str, noun: str = "trait", nouns: str = "traits"
) -> list[str]:
    """Word what is passed over: reasons that differ in numbers and quoted names only are one sentence.

    Args:
        reasons: Name and reason of everything that is passed over; a pair that comes again counts once.
        outcome: What does not happen to it, such as ``not imputed``.
        advice: A sentence on what to do about it.
        noun: Word for what has a name.
        nouns: Its plural.

    Returns:
        Sentences in the order in which the reasons come up, such as "2 traits are not imputed (cleft_size, tag): 7 to 9
        annotated synapses, at least 30 needed. Annotate more." Of more than six names the first six are listed.
    """
    by_form: dict[str, dict[str, list[str]]] = {}
    for name, reason in dict.fromkeys(reasons):
        by_form.setdefault(_DETAIL.sub("_", reason), {}).setdefault(name, []).append(reason)
    sentences = []
    for by_name in by_form.values():
        told = _joined([reason for found in by_name.values() for reason in found])
        subject = f"{len(by_name)} {nouns} are {outcome} ({some(by_name, _NAMED)})"
        if len(by_name) == 1:
            subject = f"{noun.capitalize()} {next(iter(by_name))} is {outcome}"
        sentences.append(f"{subject}: {told}. {advice}")
    return sentences


def _joined(reasons: list[str]) -> str:
    """Sentences of one form as one: numbers that differ as a range, names as a list."""
    details = [list(dict.fromkeys(found)) for found in zip(*map(_DETAIL.findall, reasons), strict=True)]
    parts = iter(details)

    def merged(_: re.Match[str]) -> str:
        values = next(parts)
        if len(values) == 1:
            return values[0]
        if values[0].startswith("'"):
            return some(values, _NAMED)
        numbers = sorted(map(int, values))
        return f"{numbers[0]} to {numbers[-1]}"

    return _DETAIL.sub(merged, reasons[0])
