"""Chunks on their way from the store to the training step.

The order of an epoch is a function of seed and epoch alone, so that an interrupted epoch can be entered anywhere.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from synapseclr.augmentation import PreparedChunks
from synapseclr.augmentation.threads import draw_ahead
from synapseclr.errors import ConfigurationError
from synapseclr.training.config import PretrainingConfig
from synapseclr.training.positives import NeuriteTable, make_partners
from synapseclr.training.prepared_store import PreparedStore, prepared_store
from synapseclr.volumes import ChunkStore

Partners: TypeAlias = Callable[[NDArray[np.int64], np.random.Generator], NDArray[np.int64]]
"""Given the positions (b,) of a batch and a generator, the positions (b,) of their partners."""


class EpochBatchSampler(Sampler[list[int]]):
    """Batches of positions 0 ... n - 1 for one of several processes.

    Nothing is drawn from a global state: the order depends on (seed, epoch), partners on (seed, epoch, batch, rank).
    With the same seed and epoch, the processes' batches of one index together are the batch that one process with
    ``world_size`` times the batch size would yield. The order is that of PyTorch's ``DistributedSampler``.

    Args:
        n: Number of positions.
        batch_size: Positions in a batch of one process.
        seed: Of order and partners.
        shuffle: A new order each epoch, or always ascending.
        rank: This process.
        world_size: Number of processes; each gets equally many batches.
        drop_last: Leave out positions that do not fill a batch on every process. Otherwise the last batch may be
            smaller, and the first positions are repeated until every process has equally many.
        partners: When given, a batch is followed by its partners: 2 b positions, anchors first.

    Attributes:
        epoch: The epoch, from 0, that the next iteration yields.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        seed: int,
        shuffle: bool,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        partners: Partners | None = None,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank is {rank}, expected 0 to {world_size - 1} (world_size - 1).")
        self.epoch = 0
        self._n = n
        self._batch_size = batch_size
        self._seed = seed
        self._shuffle = shuffle
        self._rank = rank
        self._world_size = world_size
        self._drop_last = drop_last
        self._partners = partners
        self._entry = (0, 0)

    @property
    def sampler(self) -> EpochBatchSampler:
        """Itself: Lightning looks for ``set_epoch`` on a batch sampler's ``sampler``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, that the next iteration yields."""
        self.epoch = epoch

    def enter_at(self, epoch: int, batch: int) -> None:
        """Let iterations of one epoch begin at a later batch; all other epochs begin at their first."""
        self._entry = (epoch, batch)

    @property
    def first_batch(self) -> int:
        """Index of the batch that an iteration of the current epoch begins at."""
        return self._entry[1] if self.epoch == self._entry[0] else 0

    def __len__(self) -> int:
        """Batches of a whole epoch on this process, wherever it is entered."""
        per_rank, rest = divmod(self._n, self._world_size)
        if self._drop_last:
            return per_rank // self._batch_size
        return -(-(per_rank + bool(rest)) // self._batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        epoch = self.epoch
        positions_r = self._order(epoch)[self._rank :: self._world_size]  # the processes take turns
        for batch in range(self.first_batch, len(self)):
            anchors_b = positions_r[batch * self._batch_size : (batch + 1) * self._batch_size]
            if self._partners is None:
                yield anchors_b.tolist()
            else:
                rng = np.random.default_rng([self._seed, epoch, batch, self._rank])
                yield np.concatenate([anchors_b, self._partners(anchors_b, rng)]).tolist()

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Positions of all processes, in turns."""
        if self._shuffle:
            generator = torch.Generator().manual_seed(self._seed + epoch)
            order_n = torch.randperm(self._n, generator=generator).numpy()
        else:
            order_n = np.arange(self._n)
        # cut to a multiple of the number of processes, or repeated from the start up to one
        if self._drop_last:
            return order_n[: self._n // self._world_size * self._world_size]
        return np.resize(order_n, -(-self._n // self._world_size) * self._world_size)


class SynapseDataset(Dataset[Tensor | PreparedChunks]):
    """Chosen synapses, read in whole batches, as their views need them.

    Args:
        synapses: All synapses.
        indices: Positions of the chosen ones.
    """

    def __init__(self, synapses: PreparedStore, indices: NDArray[np.int64]) -> None:
        self.synapses = synapses
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Tensor | PreparedChunks:
        return self.__getitems__([position])

    def __getitems__(self, positions: list[int]) -> Tensor | PreparedChunks:
        return self.synapses.read(self.indices[positions])


class EpochLoader(DataLoader[Any]):
    """A loader whose position within an epoch is part of Lightning's checkpoints.

    The position counts the batches that were handed out; what workers have read ahead, or what was drawn ahead, is
    read or drawn again.
    """

    batch_sampler: EpochBatchSampler
    _n_handed_out = 0
    _draw: Callable[[int, Any, int], Any] | None = None
    _draw_threads = 0

    def draw_ahead(self, draw: Callable[[int, Any, int], Any], n_threads: int) -> None:
        """Hand out ``draw(epoch, batch, index)`` instead of batches, drawn by so many threads one batch ahead."""
        self._draw, self._draw_threads = draw, n_threads

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self._n_handed_out = self.batch_sampler.first_batch
        batches: Iterator[Any] = super().__iter__()
        if self._draw is not None:
            draw = partial(self._draw, self.batch_sampler.epoch)
            batches = draw_ahead(batches, draw, self.batch_sampler.first_batch, self._draw_threads)
        for batch in batches:
            self._n_handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The epoch, from 0, and how many of its batches were handed out, of how many."""
        return {"epoch": self.batch_sampler.epoch, "batches": self._n_handed_out, "of": len(self)}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Let the epoch begin where the state was taken.

        Raises:
            ConfigurationError: If the epoch had another number of batches then.
        """
        if state_dict["of"] != len(self):
            raise ConfigurationError(
                f"The checkpoint was written after batch {state_dict['batches']} of {state_dict['of']} of an epoch, "
                f"which has {len(self)} batches now: it ran on another number of processes. Continue with the same "
                "pretraining.devices and nodes, or train from the start with pretraining.resume: false."
            )
        self.batch_sampler.enter_at(state_dict["epoch"], state_dict["batches"])


class ChunkDataModule(lightning.LightningDataModule):
    """Splits the synapses into training and validation and batches them.

    The order of an epoch depends on the seed and the epoch only, so a resumed run sees what an uninterrupted one sees.

    Args:
        store: The chunks.
        config: Batch size, seed, validation fraction.
        excluded: Store indices that stay out of both sets.
        neurites: Needed for positives of the same neurite.

    Attributes:
        synapses: The synapses as their views need them.
        partners: Draws the partners of training synapses among each other; None under ``augment``.
    """

    def __init__(
        self,
        store: ChunkStore,
        config: PretrainingConfig,
        excluded: NDArray[np.int64],
        neurites: NeuriteTable | None = None,
    ) -> None:
        super().__init__()
        self.store = store
        self.config = config
        self.synapses = prepared_store(store, config.augmentation, config.chunk_cache_mb)
        usable = np.setdiff1d(np.arange(len(store)), excluded)
        order = np.random.default_rng(config.seed).permutation(usable)
        n_validation = round(config.validation_fraction * len(order))
        if 0 < n_validation < 2:
            n_validation = 0
        self.validation_indices = np.sort(order[:n_validation])
        self.training_indices = np.sort(order[n_validation:])
        if len(self.training_indices) < config.batch_size:
            raise ConfigurationError(
                f"pretraining.batch_size is {config.batch_size}, but only {len(self.training_indices)} synapses are "
                f"left for training ({len(store)} stored, {len(store) - len(usable)} excluded, "
                f"{n_validation} held out). Make the batch smaller."
            )
        self.partners = make_partners(config.positives, neurites, self.training_indices, config.batch_size)

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches of one size; the incomplete last one is left out, as contrast depends on the batch size."""
        loader = self._loader(self.training_indices, shuffle=True, batch_size=self.config.batch_size)
        n_threads = self.config.view_threads
        trainer: Any = self.trainer
        on_cpu = trainer is not None and trainer.strategy.root_device.type == "cpu"
        if on_cpu and 0 < n_threads < torch.get_num_threads():
            loader.draw_ahead(trainer.lightning_module.training_views, n_threads)
        return loader

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """The held-out synapses in batches of nearly one size, always in the same order."""
        n = len(self.validation_indices)
        if n == 0:
            return []
        world_size = self.trainer.world_size if self.trainer else 1
        n_batches = math.ceil(n / (self.config.batch_size * world_size))
        batch_size = math.ceil(math.ceil(n / world_size) / n_batches)
        return self._loader(self.validation_indices, shuffle=False, batch_size=batch_size)

    def _loader(self, indices: NDArray[np.int64], shuffle: bool, batch_size: int) -> EpochLoader:
        trainer = self.trainer
        dataset = SynapseDataset(self.synapses, indices)
        self.synapses.fill(indices, show_progress=trainer is None or trainer.is_global_zero)
        world_size = trainer.world_size if trainer else 1
        sampler = EpochBatchSampler(
            len(dataset),
            batch_size,
            self.config.seed,
            shuffle,
            rank=trainer.global_rank if trainer else 0,
            world_size=world_size,
            drop_last=shuffle,
            partners=self.partners if shuffle else None,
        )
        if not len(sampler):
            raise ConfigurationError(
                f"pretraining.batch_size is {batch_size} in each of {world_size} processes, but only "
                f"{len(indices)} synapses are left for training. Make the batch smaller, or use fewer processes."
            )
        workers = self.config.num_workers
        return EpochLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=self.config.prefetch_factor if workers else None,
            multiprocessing_context="forkserver" if workers else None,
            worker_init_fn=_ignore_stop_signals,
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
            collate_fn=_as_is,
        )


def _as_is(batch: Any) -> Tensor | PreparedChunks:
    """The data set reads whole batches; nothing is left to collate."""
    assert isinstance(batch, Tensor | PreparedChunks)
    return batch


def _ignore_stop_signals(_worker: int) -> None:
    """Let a data worker survive the signal that its whole process group gets, so that the step can be finished.

    A second SIGTERM ends the worker: that is how the training process ends its workers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: signal.signal(signal.SIGTERM, signal.SIG_DFL))
