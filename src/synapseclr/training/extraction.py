"""Embed stored chunks with a trained (or random) encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from synapseclr.augmentation import Augmenter
from synapseclr.errors import ConfigurationError
from synapseclr.training.scale.processes import collect_shares, own_share, rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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

    With several devices or machines, each process embeds consecutive batches: the same batches that one process would
    form, so that the features do not depend on how many there are.

    Returns:
        The recorded layers by name, float32 (n, f); on every machine all of them.

    Raises:
        ConfigurationError: If several devices are asked for and one is named; if the processes cannot work together.
    """
    on_gpu = {"auto": None, "cpu": False}.get(config.device, True)
    if config.is_one_process(on_gpu):
        layers = _embed_share(model, store, augmentation, config)
    else:
        from synapseclr.training.scale import launch

        if ":" in config.device:
            raise ConfigurationError(
                f"embedding.device is {config.device}, which is one GPU, but embedding.devices is {config.devices} on "
                f"{config.nodes} machines. Set embedding.device to auto, cuda or cpu."
            )
        layers = launch(_embed_in_worker, (model, store, augmentation, config), config, on_gpu)
    return {name: np.asarray(features_nf) for name, features_nf in layers.items()}


def _embed_share(
    model: SimCLR, store: ChunkStore, augmentation: AugmentationConfig, config: EmbeddingConfig
) -> dict[str, Tensor]:
    """Embed this process's batches; the progress bar is the first one's."""
    from rich.progress import track

    size = config.batch_size
    share = own_share(-(-len(store) // size))
    batches = (store.read(slice(batch * size, min((batch + 1) * size, len(store)))) for batch in share)
    tracked = track(batches, description="Embedding synapses", total=len(share), disable=rank() > 0)
    return embed_batches(model, tracked, augmentation, pick_device(config.device))


def _embed_in_worker(
    model: SimCLR,
    store: ChunkStore,
    augmentation: AugmentationConfig,
    config: EmbeddingConfig,
    report: Callable[..., None],
) -> dict[str, Tensor] | None:
    return collect_shares(_embed_share(model, store, augmentation, config))
