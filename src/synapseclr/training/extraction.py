"""Embed stored chunks with a trained (or random) encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from synapseclr.augmentation import Augmenter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from torch import Tensor

    from synapseclr.augmentation import AugmentationConfig
    from synapseclr.models.simclr import SimCLR
    from synapseclr.training.config import EmbeddingConfig
    from synapseclr.volumes import ChunkStore


def pick_device(name: str) -> torch.device:
    """Resolve ``auto`` to the GPU where there is one."""
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def embed_batches(
    model: SimCLR, batches: Iterable[NDArray[np.uint8]], augmentation: AugmentationConfig, device: torch.device
) -> dict[str, Tensor]:
    """Embed batches of chunks without random augmentation.

    Args:
        model: Moved to the device and put into evaluation mode; its former mode is restored.
        batches: uint8 arrays (b, 2, x, y, z).
        augmentation: Pretraining's configuration; its extraction form is applied.
        device: Where to compute.

    Returns:
        The recorded layers by name, float32 (n, f), on the CPU.
    """
    augmenter = Augmenter(augmentation.for_extraction())
    was_training = model.training
    model.to(device).eval()
    collected: dict[str, list[Tensor]] = {}
    with torch.inference_mode():
        for chunk_bcxyz in batches:
            view = augmenter(torch.from_numpy(chunk_bcxyz).to(device))
            for name, layer_bf in model(view.intensity_bcxyz).items():
                collected.setdefault(name, []).append(layer_bf.float().cpu())
    model.train(was_training)
    return {name: torch.cat(parts) for name, parts in collected.items()}


def embed_store(
    model: SimCLR, store: ChunkStore, augmentation: AugmentationConfig, config: EmbeddingConfig
) -> dict[str, NDArray[np.float32]]:
    """Embed every synapse of a store, in store order, with a progress bar.

    Returns:
        The recorded layers by name, float32 (n, f).
    """
    from rich.progress import track

    n_batches = -(-len(store) // config.batch_size)
    batches = track(store.iterate(config.batch_size), description="Embedding synapses", total=n_batches)
    layers = embed_batches(model, batches, augmentation, pick_device(config.device))
    return {name: np.asarray(features_nf) for name, features_nf in layers.items()}
