"""Threads for compiled loops on a CPU: as many as torch uses, kept between calls."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch

PIECES_PER_THREAD = 4  # rows differ in work: more pieces than threads keep all of them busy


@cache
def _helpers(process: int, n_helpers: int) -> ThreadPoolExecutor:
    """Threads of this process; the key holds its id, as a forked child has none of its parent's threads."""
    return ThreadPoolExecutor(n_helpers)


def in_threads(kernel: Callable[..., Any], n_rows: int, *arguments: Any) -> None:
    """Call ``kernel(start, stop, *arguments)`` on ranges that cover ``n_rows``; the kernel must release the GIL."""
    threads = torch.get_num_threads()
    if threads == 1 or n_rows < 2:
        kernel(0, n_rows, *arguments)
        return
    bounds = np.linspace(0, n_rows, min(n_rows, threads * PIECES_PER_THREAD) + 1).astype(int).tolist()
    together([partial(kernel, *ends, *arguments) for ends in pairwise(bounds)])


def together(calls: Sequence[Callable[[], Any]]) -> None:
    """Call functions on as many threads as torch uses; the calling thread is one of them."""
    waiting = deque(calls)

    def work() -> None:
        while waiting:
            try:
                call = waiting.popleft()
            except IndexError:  # another thread took the last one
                return
            call()

    n_helpers = min(torch.get_num_threads(), len(calls)) - 1
    helping = [_helpers(os.getpid(), n_helpers).submit(work) for _ in range(n_helpers)] if n_helpers > 0 else []
    work()
    for future in helping:
        future.result()
