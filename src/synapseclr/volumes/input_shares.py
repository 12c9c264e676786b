"""Shares of synapses that tables and volumes disagree on: above a limit they are an error, below it a warning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from synapseclr.volumes.synapse_cutter import NO_CLEFT, NO_CONTACT

if TYPE_CHECKING:
    import pandas as pd

    from synapseclr.volumes.config import PreprocessingConfig

WARNED_PART_OF_LIMIT = 0.2
REJECTED_KINDS = ("outside", "cleft_far", "no_contact", "unreadable")
_DEVIATIONS = 3.0
_NEURITE_KINDS = ("without_pre", "without_post", "without_either")

LABELS = {
    "outside": "outside of the EM volume",
    "at_border": "with a chunk that hangs over the border",
    "cleft_far": "without a labelled cleft nearby",
    "no_contact": "whose two segments do not touch nearby",
    "own_cleft": "with a cleft of their own id nearby",
    "without_pre": "without their presynaptic neurite",
    "without_post": "without their postsynaptic neurite",
    "without_either": "without either neurite",
    "unreadable": "in blocks that cannot be read",
    "constant_sections": "sections that are black or of one intensity",
    "autapses": "autapses, of one root id on both sides",
}


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with the inputs, or may be.

    Attributes:
        severity: An error ends the run before anything is cut.
        text: A sentence or more: what was found, where, and what to do.
        kind: The share that is too large, where it is one.
    """

    severity: Literal["error", "warning"]
    text: str
    kind: str = ""


@dataclass(frozen=True)
class Share:
    """A count out of a total.

    Attributes:
        n: Those concerned.
        of: All that were looked at.
        expected: Share of those concerned in correct data.
        is_sample: Whether those looked at stand for more.
    """

    n: int
    of: int
    expected: float = 0.0
    is_sample: bool = False

    @property
    def excess(self) -> float:
        """Share beyond the expected one, as a part of what could be beyond it."""
        if not self.of or self.expected >= 1:
            return 0.0
        return max(self.n / self.of - self.expected, 0.0) / (1 - self.expected)

    def __str__(self) -> str:
        """The two numbers and their ratio, such as "5 of 20 (25 %)"; below one per cent with a digit more."""
        percent = 100 * self.n / max(self.of, 1)
        if 0 < percent < 1:
            return f"{self.n:,} of {self.of:,} ({f'{percent:.1f}' if percent >= 0.1 else '< 0.1'} %)"
        return f"{self.n:,} of {self.of:,} ({percent:.0f} %)"


def judge(shares: Mapping[str, Share], config: PreprocessingConfig) -> dict[str, Literal["error", "warning"]]:
    """Tell which shares are too large, and how bad that is.

    ``preprocessing.max_suspect_fraction`` is the limit; a share above a fifth of it is a warning. Of what cutting
    rejects, the limit is ``preprocessing.max_rejected_fraction``; a sample must lie three standard deviations above it.
    Autapses exist: they are never an error. Clefts with their synapse's id are none at all.

    Returns:
        Kind to severity. Synapses without either neurite do not count for the single sides once more.
    """
    found: dict[str, Literal["error", "warning"]] = {}
    for kind, share in shares.items():
        if kind == "own_cleft":
            continue
        limit = least = config.max_suspect_fraction
        excess = share.excess
        if kind in REJECTED_KINDS:
            limit = least = config.max_rejected_fraction
            if share.is_sample and share.of:
                least += _DEVIATIONS * (limit * (1 - limit) / share.of) ** 0.5
        elif kind in _NEURITE_KINDS[:2]:
            excess = Share(share.n - shares["without_either"].n, share.of).excess
        if excess > least and kind != "autapses":
            found[kind] = "error"
        elif excess > WARNED_PART_OF_LIMIT * limit:
            found[kind] = "warning"
    return found


def neurite_shares(
    has_pre: pd.Series, has_post: pd.Series, pre_root_id: pd.Series, post_root_id: pd.Series
) -> dict[str, Share]:
    """Shares of synapses without a neurite that the table names; a root id of 0 names none.

    Args:
        has_pre: Whether the chunk has the presynaptic neurite, boolean (n,).
        has_post: The same of the postsynaptic one.
        pre_root_id: Ids (n,), in the same order.
        post_root_id: Ids (n,).
    """
    lacks_pre, lacks_post = ~has_pre & (pre_root_id != 0), ~has_post & (post_root_id != 0)
    both = (pre_root_id != 0) & (post_root_id != 0)
    return {
        "without_pre": Share(int(lacks_pre.sum()), int((pre_root_id != 0).sum())),
        "without_post": Share(int(lacks_post.sum()), int((post_root_id != 0).sum())),
        "without_either": Share(int((lacks_pre & lacks_post).sum()), int(both.sum())),
    }


def judge_chunks(
    metadata: pd.DataFrame, rejected: Mapping[int, str], sections: Share, config: PreprocessingConfig
) -> tuple[dict[str, Share], list[Finding]]:
    """Judge all chunks together once they are stored.

    Args:
        metadata: One row a chunk.
        rejected: Reason by synapse.
        sections: Sections without structure, of all.
        config: The limits.

    Returns:
        The shares, and those that are too large, in sentences. Rejections have been judged while cutting.
    """
    n = len(metadata)
    without_cleft, begins = ("no_contact", NO_CONTACT) if config.cleft == "painted" else ("cleft_far", NO_CLEFT)
    n_without = sum(reason.startswith(begins) for reason in rejected.values())
    shares = {
        **neurite_shares(
            ~metadata["is_pre_missing"], ~metadata["is_post_missing"], metadata["pre_root_id"], metadata["post_root_id"]
        ),
        "constant_sections": sections,
        without_cleft: Share(n_without, n + len(rejected)),
        "autapses": Share(int(metadata["is_autapse"].sum()), n),
    }
    findings = []
    for kind, severity in judge(shares, config).items():
        is_error = severity == "error" and kind not in REJECTED_KINDS
        advice = "`kedro synapseclr check` compares tables and volumes and says what is likely."
        suspects = f" {_SUSPECTS[kind]}" if is_error or kind in _SUSPECT_IN_PART else ""
        text = f"Of all chunks: {shares[kind]} are {_PLACES[kind]}.{suspects} {advice}"
        findings.append(Finding("error" if is_error else "warning", text, kind))
    return shares, findings


_PLACES = {
    "without_pre": "synapses whose pre_root_id of the synapse table does not occur near them in the segmentation",
    "without_post": "synapses whose post_root_id of the synapse table does not occur near them in the segmentation",
    "without_either": "synapses neither of whose root ids of the synapse table occurs near them in the segmentation",
    "constant_sections": "sections of the EM that are black or of one intensity",
    "cleft_far": "synapses without a labelled cleft nearby, and rejected",
    "no_contact": "synapses whose segments do not touch near their centre, and rejected",
    "autapses": "synapses with the same pre_root_id and post_root_id",
}
_SUSPECT_IN_PART = ("cleft_far", "no_contact", "autapses")
_SUSPECTS = {
    **dict.fromkeys(
        _NEURITE_KINDS,
        "Table and segmentation are of different versions, or the segmentation holds supervoxels, or the positions "
        "have another unit or axis order.",
    ),
    "constant_sections": "The EM volume's path, scale or chunk keys may be wrong.",
    "cleft_far": "Positions, cleft volume or preprocessing.max_cleft_distance_nm do not fit each other.",
    "no_contact": "Positions and segmentation do not fit each other, or the sides are separated by more than a cleft.",
    "autapses": "Has one column been copied onto the other?",
}


def as_document(shares: Mapping[str, Share]) -> dict[str, Any]:
    """Shares for a JSON file, in words."""
    return {kind: {"label": LABELS[kind], "n": share.n, "of": share.of} for kind, share in shares.items()}
