"""Embed stored chunks with a trained (or random) encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from synapseclr.augmentation import Augmenter
from synapseclr.errors import ConfigurationError
from synapseclr.models.simclr import BACKBONE
from synapseclr.training.prepared_store import prepared_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from synapseclr.augmentation import AugmentationConfig, PreparedChunks
    from synapseclr.models import EncoderWeights, ModelConfig
    from synapseclr.models.simclr import SimCLR
    from synapseclr.training.config import EmbeddingConfig, EmbeddingPoses, PretrainingConfig
    from synapseclr.volumes import ChunkStore

ROTATION_VARIANCE = "rotation_variance"
_ORGANIZATIONS = {1: "merged", 2: "separate"}


def pick_device(name: str) -> torch.device:
    """Resolve ``auto`` to the GPU where there is one."""
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def embed_batches(
    model: SimCLR,
    batches: Iterable[NDArray[np.uint8] | Tensor | PreparedChunks],
    augmentation: AugmentationConfig,
    device: torch.device,
    poses: EmbeddingPoses | None = None,
) -> dict[str, Tensor]:
    """Embed batches of synapses without random augmentation.

    Args:
        model: Moved to the device and put into evaluation mode; its former mode is restored.
        batches: uint8 chunks (b, 2, x, y, z), or what the augmenter's preparation made of them.
        augmentation: Pretraining's configuration; its extraction form is applied.
        device: Where to compute.
        poses: Rotations over which the layers are averaged, spread evenly over SO(3), the first upright; and
            magnifications, whose layers stand side by side. Default: one upright view.

    Returns:
        The recorded layers by name, float32 (n, f x magnifications), on the CPU; with several rotations also
        ``ROTATION_VARIANCE``, the variance of the backbone feature over them.

    Raises:
        ConfigurationError: If published fidelity is to be embedded in other poses than its own.
    """
    from synapseclr.augmentation.operations.pose import magnified, spread_rotations
    from synapseclr.training.config import EmbeddingPoses

    poses = poses or EmbeddingPoses()
    if poses != EmbeddingPoses() and augmentation.fidelity == "published":
        raise ConfigurationError(
            f"embedding.n_rotations is {poses.n_rotations} and embedding.magnifications {list(poses.magnifications)}, "
            "but fidelity 'published' embeds each synapse in one pose, as the published code does. Set "
            "embedding.n_rotations: 1 and embedding.magnifications: [1.0], or fidelity: corrected."
        )
    augmenter = Augmenter(augmentation.for_extraction())
    rotations = spread_rotations(poses.n_rotations)
    matrices = [magnified(rotations, torch.tensor([factor])) for factor in poses.magnifications]
    was_training = model.training
    model.to(device).eval()
    collected: dict[str, list[Tensor]] = {}
    with torch.inference_mode():
        for batch in batches:
            chunks = torch.from_numpy(batch) if isinstance(batch, np.ndarray) else batch
            prepared = augmenter.prepare(chunks) if isinstance(chunks, Tensor) else chunks
            placed = prepared.to(device)
            scales = [_averaged(model, augmenter, placed, matrix_rij) for matrix_rij in matrices]
            for name in scales[0]:
                collected.setdefault(name, []).append(torch.cat([layers[name] for layers in scales], dim=1).cpu())
    model.train(was_training)
    return {name: torch.cat(parts) for name, parts in collected.items()}


def _averaged(
    model: SimCLR, augmenter: Augmenter, chunks: Tensor | PreparedChunks, matrix_rij: Tensor
) -> dict[str, Tensor]:
    """Means of the layers over poses, and the variance of the backbone feature where there are several."""
    totals: dict[str, Tensor] = {}
    squares = torch.zeros(())
    for matrix_ij in matrix_rij:
        view = augmenter(chunks) if isinstance(chunks, Tensor) else augmenter.posed_view(chunks, matrix_ij[None])
        for name, layer_bf in model(view.intensity_bcxyz, view.mask_bcxyz).items():
            totals[name] = totals.get(name, 0) + layer_bf.float()
            if name == BACKBONE:
                squares = squares.to(layer_bf.device) + layer_bf.float() ** 2
    means = {name: total / len(matrix_rij) for name, total in totals.items()}
    if len(matrix_rij) > 1:
        means[ROTATION_VARIANCE] = (squares / len(matrix_rij) - means[BACKBONE] ** 2).clamp(min=0)
    return means


def rotation_spread(features_nf: NDArray[np.float32], variance_nf: NDArray[np.float32]) -> NDArray[np.float32]:
    """Spread of a synapse's features over its poses: an uncertainty of the features that one pose gives.

    Args:
        features_nf: Features, averaged over poses.
        variance_nf: Their variance over poses.

    Returns:
        Root mean square over the features of their standard deviation over poses, in standard deviations between
        synapses, (n,): 0 where the pose does not matter, 1 where it matters as much as which synapse it is.
    """
    return spread_over_poses(variance_nf, features_nf.var(axis=0, dtype=np.float64))


def spread_over_poses(variance_nf: NDArray[np.float32], between_f: NDArray[np.float64]) -> NDArray[np.float32]:
    """As :func:`rotation_spread`, from the variance of the features between synapses, (f,)."""
    varies_f = between_f > 1e-12
    if not varies_f.any():
        return np.zeros(len(variance_nf), np.float32)
    return np.sqrt((variance_nf[:, varies_f] / between_f[varies_f]).mean(axis=1)).astype(np.float32)


def embed_store(
    model: SimCLR, store: ChunkStore, augmentation: AugmentationConfig, config: EmbeddingConfig
) -> dict[str, NDArray[np.float32]]:
    """Embed every synapse of a store, in store order, with a progress bar.

    This process does it, in memory; :func:`synapseclr.training.embed_to_shards` does the same by several processes, for
    any number of synapses.

    Returns:
        The recorded layers by name, float32 (n, f). With several rotations also ``rotation_spread`` (n,), see the
        function of that name.
    """
    from rich.progress import track

    size = config.batch_size
    synapses = prepared_store(store, augmentation.for_extraction(), config.chunk_cache_mb)
    firsts = range(0, len(store), size)
    batches = (synapses.read(range(first, min(first + size, len(store)))) for first in firsts)
    tracked = track(batches, description="Embedding synapses", total=len(firsts))
    layers = embed_batches(model, tracked, augmentation, pick_device(config.device), config.poses)
    found = {name: np.asarray(features_nf) for name, features_nf in layers.items()}
    if ROTATION_VARIANCE in found:
        found["rotation_spread"] = rotation_spread(found[BACKBONE], found.pop(ROTATION_VARIANCE))
    return found


def check_channels(model: ModelConfig, augmentation: AugmentationConfig) -> None:
    """Compare the channels of weights with those of the images that they are to embed.

    Raises:
        ConfigurationError: If they differ; names both, and what to set.
    """
    needed = _ORGANIZATIONS[model.in_channels]
    if augmentation.channel_organization != needed:
        raise ConfigurationError(
            f"The weights take in_channels {model.in_channels}, but the augmentation makes images of "
            f"channel_organization '{augmentation.channel_organization}'. For these weights, set under pretraining "
            f"augmentation.channel_organization: {needed} and model.in_channels: {model.in_channels}; or take weights "
            f"whose in_channels is {3 - model.in_channels}."
        )


def embed_alike(
    encoder: Callable[[], EncoderWeights],
    provenance: Mapping[str, str],
    batches: Iterable[NDArray[np.uint8]],
    store: ChunkStore,
    pretraining: PretrainingConfig,
    n_rotations: int | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Embed further chunks as a run's synapses were embedded: by the same weights, with the same extraction.

    Args:
        encoder: Reads the encoder's weights.
        provenance: Of the run's embeddings.
        batches: uint8 chunks (b, 2, x, y, z).
        store: The run's chunks, for batch norms that were adapted to them.
        pretraining: The augmentation, where the provenance does not have it.
        n_rotations: Fewer poses than those of the run; None: as many.

    Returns:
        The recorded layers by name, float32 (n, f).

    Raises:
        ConfigurationError: If the weights at hand are not those that made the embeddings.
    """
    from synapseclr.augmentation import AugmentationConfig
    from synapseclr.training.config import EmbeddingPoses
    from synapseclr.training.initial_weights import adapted_weights

    weights = encoder()
    made_by = provenance.get("weights_sha256", weights.sha256)
    if made_by != weights.sha256:
        raise ConfigurationError(
            f"The weights at hand (sha256 {weights.sha256[:12]}) did not make synapse_embeddings ({made_by[:12]}), so "
            "a chunk that they embed cannot be compared: run `kedro run --pipeline=embedding` again."
        )
    if "batch_norm_views" in provenance:
        views = AugmentationConfig.model_validate_json(provenance["batch_norm_views"])
        weights = adapted_weights(weights, store, pretraining.model_copy(update={"augmentation": views}))
    known = provenance.get("augmentation")
    augmentation = AugmentationConfig.model_validate_json(known) if known else pretraining.augmentation
    poses = EmbeddingPoses.model_validate_json(provenance.get("poses", "{}"))
    if n_rotations is not None:
        poses = poses.model_copy(update={"n_rotations": min(n_rotations, poses.n_rotations)})
    layers = embed_batches(weights.build(), batches, augmentation, pick_device("auto"), poses)
    return {name: layer_nf.numpy() for name, layer_nf in layers.items()}
