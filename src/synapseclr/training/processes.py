"""Rank and world size of this process, and shares of work among all processes; alone, it is rank 0 of one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor, distributed


def rank() -> int:
    """Of this process among all of the job."""
    return distributed.get_rank() if _together() else 0


def world_size() -> int:
    """Number of processes of the job."""
    return distributed.get_world_size() if _together() else 1


def trainer_processes() -> dict[str, Any]:
    """Arguments of ``lightning.Trainer`` for the processes that there are."""
    if not _together():
        return {"devices": 1}
    devices = int(os.environ["LOCAL_WORLD_SIZE"])
    return {"devices": devices, "num_nodes": world_size() // devices, "strategy": "ddp"}


def own_share(n: int) -> range:
    """Indices of this process's share of n items: consecutive, the ranks' shares following each other."""
    return range(n * rank() // world_size(), n * (rank() + 1) // world_size())


def join_shares(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Concatenate the processes' rows by name, in rank order, on every process.

    Args:
        own: Tensors on the CPU; a process without a share may give none.
    """
    if not _together():
        return dict(own)
    parts: list[Mapping[str, Tensor]] = [{}] * world_size()
    distributed.all_gather_object(parts, dict(own))
    return _concatenate(parts)


def collect_shares(own: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Concatenate the processes' rows by name, in rank order, on rank 0; None on the others."""
    if not _together():
        return dict(own)
    parts: list[Mapping[str, Tensor]] | None = [{}] * world_size() if rank() == 0 else None
    distributed.gather_object(dict(own), parts)
    return _concatenate(parts) if parts is not None else None


def _concatenate(parts: list[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    import torch

    names = dict.fromkeys(name for part in parts for name in part)
    return {name: torch.cat([part[name] for part in parts if name in part]) for name in names}


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
