"""The recorded layers of a set of embeddings, by name, checked before anything is computed from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from synapseclr.errors import SynapseCLRError

if TYPE_CHECKING:
    from anndata import AnnData

BACKBONE = "encoder.fc"
"""Layer that lies in ``X``; the others lie in ``obsm`` under their own names."""

PROJECTOR_LAYERS = ("projector.mlp.0", "projector.mlp.3")
LAYERS = (BACKBONE, *PROJECTOR_LAYERS)


def layer_features(embeddings: AnnData, layer: str = BACKBONE) -> np.ndarray:
    """Features of one recorded layer.

    Args:
        embeddings: Synapses by backbone features, with the projector layers in ``obsm``.
        layer: ``encoder.fc``, ``projector.mlp.0`` or ``projector.mlp.3``.

    Returns:
        float32 (n, f), C-contiguous.

    Raises:
        SynapseCLRError: If the layer is absent or holds values that are not finite.
    """
    if layer != BACKBONE and layer not in embeddings.obsm:
        present = ", ".join([BACKBONE, *embeddings.obsm])
        raise SynapseCLRError(f"The embeddings have no layer '{layer}'. Layers present: {present}.")
    raw_nf = embeddings.X if layer == BACKBONE else embeddings.obsm[layer]
    features_nf = np.ascontiguousarray(raw_nf, dtype=np.float32)
    check_finite(features_nf, layer)
    return features_nf


def recorded_layers(embeddings: AnnData) -> dict[str, np.ndarray]:
    """Every recorded layer that the embeddings hold, in the order backbone, middle, head: name to float32 (n, f)."""
    present = [BACKBONE, *(layer for layer in PROJECTOR_LAYERS if layer in embeddings.obsm)]
    return {layer: layer_features(embeddings, layer) for layer in present}


def check_finite(features_nf: np.ndarray, name: str) -> None:
    """Refuse features that hold NaN or infinity.

    Args:
        features_nf: Shape (n, f).
        name: What they are, for the message.

    Raises:
        SynapseCLRError: With the number of synapses concerned.
    """
    n_bad = int((~np.isfinite(features_nf)).any(axis=1).sum())
    if n_bad:
        raise SynapseCLRError(
            f"Features of '{name}' are not finite for {n_bad} of {len(features_nf)} synapses. The encoder has "
            "diverged: lower the learning rate or use fp32, then run pretraining and embedding again."
        )
