"""Large tables that are kept from call to call."""

import threading

import torch
from torch import Tensor

from synapseclr.augmentation.resampling import empty_table


class Workspace(threading.local):
    """The tables that an augmenter reads its views from, kept between calls: one set a thread.

    Memory of this size (80 MB of masks for eight published chunks) is otherwise given back to the operating system
    after every call and mapped again page by page in the next, which takes a quarter of a view's time on a CPU. On a
    GPU torch's allocator keeps memory, and nothing is held here.

    A table's content is valid until the table of the same name is asked for again: results must not be views of it.
    """

    def __init__(self) -> None:
        self._held: dict[str, tuple[tuple[int, ...], bool, torch.dtype, Tensor]] = {}

    def __reduce__(self) -> tuple[type["Workspace"], tuple[()]]:
        return Workspace, ()  # to another process goes an empty one

    def table(
        self,
        name: str,
        shape_bcxyz: tuple[int, ...],
        shared_grid: bool,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """An ``empty_table`` of this shape and layout; the one of the last call with this name where it fits."""
        if device.type != "cpu":
            return empty_table(shape_bcxyz, shared_grid, device, dtype)
        held = self._held.get(name)
        if held is None or held[:3] != (shape_bcxyz, shared_grid, dtype):
            empty = empty_table(shape_bcxyz, shared_grid, device, dtype)
            held = self._held[name] = (shape_bcxyz, shared_grid, dtype, empty)
        return held[3]
