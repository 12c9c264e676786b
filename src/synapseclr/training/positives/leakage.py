"""Whether scores on annotated neurites are scores of an encoder that has learned to recognise these neurites.

What pretraining did is in the provenance of its weights. That of a training which starts from other weights carries
theirs, each key with ``initial_`` before it; that of an embedding the weights', with ``weights_`` before it.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from synapseclr.training.positives.config import PositivesConfig
from synapseclr.training.positives.neurites import NeuriteTable

_PAIRED = "positives_pair_annotated_neurites"
_DIGEST = "positives_neurites_sha256"
_CHANGED = "annotations_changed_since_pretraining"


def guard_provenance(config: PositivesConfig, neurites: NeuriteTable) -> dict[str, str]:
    """What the weights say of the guard: whether it was on, and of which neurites it knew."""
    return {
        "positives": config.kind,
        _PAIRED: str(config.pair_annotated_neurites).lower(),
        _DIGEST: neurites.sha256,
    }


def inherited_provenance(provenance: Mapping[str, str]) -> dict[str, str]:
    """What weights hand on of their pairs to those that are trained from them."""
    return {f"initial_{key}": value for key, value in provenance.items() if "positives" in key}


def annotation_provenance(
    weights: Mapping[str, str], metadata: pd.DataFrame, annotations: pd.DataFrame, chunks_sha256: str
) -> dict[str, str]:
    """What an embedding says of annotations that came after the pretraining: its guard could not know them.

    Args:
        weights: Provenance of the weights.
        metadata: As :meth:`NeuriteTable.from_tables` takes them.
        annotations: Likewise.
        chunks_sha256: Digest of the chunks that are embedded; other ones than those of the pretraining are not checked.

    Returns:
        Empty, or ``annotations_changed_since_pretraining``.
    """
    digests = [value for key, value in weights.items() if key.endswith(_DIGEST)]
    if not digests or weights.get("chunks_sha256") != chunks_sha256:
        return {}
    now = NeuriteTable.from_tables(metadata, annotations).sha256
    return {} if all(digest == now for digest in digests) else {_CHANGED: "true"}


def leakage_warning(provenance: Mapping[str, str]) -> str | None:
    """What must be said beside scores of an encoder that may have been trained to tell annotated neurites apart.

    Args:
        provenance: Of weights or of an embedding.

    Returns:
        One sentence; None where no annotated neurite formed pairs.
    """
    true = [key for key, value in provenance.items() if str(value) == "true"]
    if any(key.endswith(_PAIRED) for key in true):
        reason = "with pairs of annotated neurites (pretraining.positives.pair_annotated_neurites)"
    elif any(key.endswith(_CHANGED) for key in true):
        reason = "with pairs of neurites, and the annotated ones among them are no longer those that it left out"
    else:
        return None
    return (
        f"The encoder was pretrained {reason}: scores on annotated synapses are not scores on unknown neurites, and "
        "must not be compared with those of encoders trained without such pairs."
    )
