"""The training step: two random views of every chunk, one model, one loss that compares the views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import lightning
import torch
from torch import Tensor, nn

from synapseclr.augmentation import Augmenter, PreparedChunks
from synapseclr.models.simclr import BACKBONE, PROJECTION
from synapseclr.objectives import gather_views
from synapseclr.objectives.views import gather
from synapseclr.training.batch_norm import synchronise_batch_norm
from synapseclr.training.config import PretrainingConfig
from synapseclr.training.initial_weights import initial_model
from synapseclr.training.optimiser import CosineWithRestarts, build_optimiser
from synapseclr.training.quality import alignment, effective_rank, uniformity
from synapseclr.training.throughput import AUGMENT, profiled

_TRAINING, _VALIDATION = 0, 1


class TwoViews(NamedTuple):
    """First views of a batch of b synapses, then their second views.

    Attributes:
        intensity_bcxyz: Shape (2 b, channels, x, y, z).
        mask_bcxyz: Likewise; None where the model takes no masks.
        chunks: The synapses themselves.
    """

    intensity_bcxyz: Tensor
    mask_bcxyz: Tensor | None
    chunks: Tensor | PreparedChunks


class PretrainingModule(lightning.LightningModule):
    """SimCLR as a Lightning module.

    All randomness of a step comes from a generator seeded by (seed, stage, epoch, batch, rank): a resumed run draws
    what an uninterrupted one draws, and no two processes draw the same.

    Args:
        config: The run's parameters.
    """

    def __init__(self, config: PretrainingConfig) -> None:
        super().__init__()
        self.config = config
        self._memory_format = torch.channels_last_3d if config.channels_last else torch.contiguous_format
        self.model, self.initial_provenance = initial_model(config)
        self.model.to(memory_format=self._memory_format)  # type: ignore[call-overload]
        self.augmenter = Augmenter(config.augmentation)
        self._objective = config.objective.build()
        self._validation: list[dict[str, Tensor]] = []
        self._compiled: Callable[[Tensor, Tensor | None], dict[str, Tensor]] | None = None

    def configure_model(self) -> None:
        """Fit the model to the processes that train it; the keys of its state dict stay."""
        if self._world_size > 1 and self.config.synchronise_batch_norm:
            synchronise_batch_norm(self.model)
        if self.config.precision == "bf16-mixed":
            keep_small_maps_in_32_bits(self.model)
        if self.config.compile and self._compiled is None:
            # the method, not the module: a compiled module has keys with a prefix
            self._compiled = torch.compile(self.model.forward, dynamic=False)

    def training_step(self, batch: Tensor | PreparedChunks | TwoViews, batch_index: int) -> Tensor:
        """Loss of one batch of synapses, or of their views; b anchors and their b partners under same_neurite."""
        if isinstance(batch, TwoViews):
            views = batch
        else:
            with profiled(self, AUGMENT):
                views = self.training_views(self.current_epoch, batch, batch_index)
        layers = self._embed(views)
        z_i, z_j = layers[PROJECTION].chunk(2)
        loss = self._loss(z_i, z_j)
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(z_i))
        return loss

    def validation_step(self, chunks: Tensor | PreparedChunks, batch_index: int) -> None:
        """Embed held-out synapses; their views are the same at every epoch."""
        layers = self._embed(self._two_views(chunks, (chunks,), self._generator(_VALIDATION, 0, batch_index)))
        self._validation.append({name: layers[name].detach().float() for name in (PROJECTION, BACKBONE)})

    def on_validation_epoch_end(self) -> None:
        """Log loss, alignment, uniformity and effective rank of the held-out synapses, those of all processes."""
        if not self._validation:
            return
        pairs = [batch[PROJECTION].chunk(2) for batch in self._validation]
        z_i, z_j = (self._all_validation(torch.cat(side)) for side in zip(*pairs, strict=True))
        features = self._all_validation(torch.cat([batch[BACKBONE].chunk(2)[0] for batch in self._validation]))
        metrics = {
            "validation_loss": torch.stack([self._loss(*pair) for pair in pairs]).mean(),
            "alignment": alignment(z_i, z_j),
            "uniformity": uniformity(z_i),
            "effective_rank": effective_rank(features),
        }
        self._validation.clear()
        self.log_dict(metrics, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """The optimiser, and its learning rate by epoch."""
        config = self.config
        optimiser = build_optimiser(self.model, config.optimiser)
        synapses_per_step = config.batch_size * config.accumulate_batches * self._world_size
        schedule = CosineWithRestarts(optimiser, config.optimiser, config.epochs, synapses_per_step)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    def training_views(self, epoch: int, chunks: Tensor | PreparedChunks, batch_index: int) -> TwoViews:
        """The views of a batch of an epoch, from 0; safe to call from another thread."""
        parts = _halves(chunks) if self.config.positives.kind == "same_neurite" else (chunks,)
        return self._two_views(chunks, parts, self._generator(_TRAINING, epoch, batch_index))

    def _two_views(
        self,
        chunks: Tensor | PreparedChunks,
        parts: tuple[Tensor | PreparedChunks, ...],
        generator: torch.Generator,
    ) -> TwoViews:
        """Two views of every synapse.

        Given synapses and their partners, each gets one view; the draws are those of two views of the synapses. One
        draw over both would, where a batch shares its draws, give a synapse that is its own partner the same view
        twice.
        """
        n_views = 2 // len(parts)
        # 16 bits would misplace the voxels
        with torch.autocast(self.device.type, enabled=False):
            views = [view for each in parts for view in self.augmenter.views(each, n_views, generator)]
            intensity_bcxyz = torch.cat([view.intensity_bcxyz for view in views])
            mask_bcxyz = torch.cat([view.mask_bcxyz for view in views]) if self.model.takes_masks else None
        return TwoViews(intensity_bcxyz.contiguous(memory_format=self._memory_format), mask_bcxyz, chunks)

    def _embed(self, views: TwoViews) -> dict[str, Tensor]:
        """Both views pass the model as one batch, so that they share batch-norm statistics."""
        network = self._compiled if self._compiled is not None and self.training else self.model
        layers: dict[str, Tensor] = network(views.intensity_bcxyz, views.mask_bcxyz)
        return layers

    @property
    def _world_size(self) -> int:
        return self._trainer.world_size if self._trainer is not None else 1

    def _all_validation(self, rows: Tensor) -> Tensor:
        """The rows (n, f) of all held-out synapses, in their order and each once, from this process's (m, f)."""
        if self._world_size == 1:
            return rows
        n = len(self.trainer.val_dataloaders.dataset)  # type: ignore[union-attr]
        rows_rmf = gather(rows).reshape(self._world_size, *rows.shape)  # synapse i is row i // r of rank i % r
        return rows_rmf.transpose(0, 1).flatten(0, 1)[:n]

    def _loss(self, z_i: Tensor, z_j: Tensor) -> Tensor:
        """The objective over the samples of all processes."""
        return self._objective(*gather_views(z_i, z_j))

    def _generator(self, stage: int, epoch: int, batch_index: int) -> torch.Generator:
        seed = 0
        for part in (self.config.seed, stage, epoch, batch_index, self.global_rank):
            seed = (seed * 6364136223846793005 + part + 1442695040888963407) % 2**63  # Knuth's MMIX congruence
        return torch.Generator().manual_seed(seed)


def _halves(chunks: Tensor | PreparedChunks) -> tuple[Tensor | PreparedChunks, Tensor | PreparedChunks]:
    """Anchors and partners of a batch."""
    if isinstance(chunks, PreparedChunks):
        return chunks.halves()
    first, second = chunks.chunk(2)
    return first, second


def keep_small_maps_in_32_bits(model: nn.Module) -> None:
    """Take the 3D convolutions of maps smaller than their kernel out of mixed precision on the CPU, in place.

    torch 2.13 (oneDNN, AVX-512 with bf16) computes the bfloat16 weight gradient of such a convolution from memory that
    is not its own: from run to run it is 0.9 off, infinite or NaN, or the process dies. It happens where an axis of the
    input is shorter than the kernel, as behind the last stages of a ResNet on 24^3 or 32^3 voxels. So small a map costs
    next to nothing in 32 bits. On other devices, and outside of autocast, nothing changes.
    """
    for module in model.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = _SmallMapConv3d  # keeps parameters, hooks and what was set on the module


class _SmallMapConv3d(nn.Conv3d):
    def forward(self, input: Tensor) -> Tensor:
        reach = (dilation * (kernel - 1) + 1 for dilation, kernel in zip(self.dilation, self.kernel_size, strict=True))
        fits = all(size >= needed for size, needed in zip(input.shape[2:], reach, strict=True))
        if fits or input.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())
