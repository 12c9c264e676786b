"""The training step: two random views of every chunk, one model, one loss that compares the views."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor

from synapseclr.augmentation import Augmenter
from synapseclr.objectives import gather_views
from synapseclr.training.config import PretrainingConfig
from synapseclr.training.quality import alignment, effective_rank, uniformity

_TRAINING, _VALIDATION = 0, 1
PROJECTION = "projector.mlp.3"
BACKBONE = "encoder.fc"


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
        self.model = config.model.build(config.seed)
        self.model.to(memory_format=self._memory_format)  # type: ignore[call-overload]
        self.augmenter = Augmenter(config.augmentation)
        self._objective = config.objective.build()
        self._validation: list[dict[str, Tensor]] = []

    def training_step(self, chunk_bcxyz: Tensor, batch_index: int) -> Tensor:
        """Loss of one batch of uint8 chunks (b, 2, x, y, z)."""
        layers = self._embed_two_views(chunk_bcxyz, self._generator(_TRAINING, self.current_epoch, batch_index))
        loss = self._loss(*layers[PROJECTION].chunk(2))
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(chunk_bcxyz))
        return loss

    def validation_step(self, chunk_bcxyz: Tensor, batch_index: int) -> None:
        """Embed held-out chunks; their views are the same at every epoch."""
        layers = self._embed_two_views(chunk_bcxyz, self._generator(_VALIDATION, 0, batch_index))
        self._validation.append({name: layers[name].detach().float() for name in (PROJECTION, BACKBONE)})

    def on_validation_epoch_end(self) -> None:
        """Log loss, alignment, uniformity and effective rank of the held-out synapses."""
        if not self._validation:
            return
        pairs = [batch[PROJECTION].chunk(2) for batch in self._validation]
        z_i, z_j = (torch.cat(side) for side in zip(*pairs, strict=True))
        metrics = {
            "validation_loss": torch.stack([self._loss(*pair) for pair in pairs]).mean(),
            "alignment": alignment(z_i, z_j),
            "uniformity": uniformity(z_i),
            "effective_rank": effective_rank(torch.cat([batch[BACKBONE].chunk(2)[0] for batch in self._validation])),
        }
        self._validation.clear()
        self.log_dict(metrics, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Adam with a cosine over the epochs."""
        optimiser = self.config.optimiser
        adam = torch.optim.Adam(
            self.model.parameters(), lr=optimiser.learning_rate, weight_decay=optimiser.weight_decay
        )
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(
            adam, T_max=self.config.epochs, eta_min=optimiser.final_learning_rate
        )
        return {"optimizer": adam, "lr_scheduler": {"scheduler": cosine, "interval": "epoch"}}

    def _embed_two_views(self, chunk_bcxyz: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Both views pass the model as one batch, so that they share batch-norm statistics. First views first."""
        views = self.augmenter.views(chunk_bcxyz, 2, generator)
        intensity_bcxyz = torch.cat([view.intensity_bcxyz for view in views])
        layers: dict[str, Tensor] = self.model(intensity_bcxyz.contiguous(memory_format=self._memory_format))
        return layers

    def _loss(self, z_i: Tensor, z_j: Tensor) -> Tensor:
        """The objective over the samples of all processes."""
        return self._objective(*gather_views(z_i, z_j))

    def _generator(self, stage: int, epoch: int, batch_index: int) -> torch.Generator:
        seed = 0
        for part in (self.config.seed, stage, epoch, batch_index, self.global_rank):
            seed = (seed * 6364136223846793005 + part + 1442695040888963407) % 2**63  # Knuth's MMIX congruence
        return torch.Generator().manual_seed(seed)
