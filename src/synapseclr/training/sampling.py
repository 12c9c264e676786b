"""The order in which an epoch visits the synapses: a function of seed and epoch, so that it can be entered anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler

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
        positions_r = self._order(epoch)[self._rank :: self._world_size]
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
        if self._drop_last:
            return order_n[: self._n // self._world_size * self._world_size]
        return np.resize(order_n, -(-self._n // self._world_size) * self._world_size)
