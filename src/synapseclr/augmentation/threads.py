"""Threads of the augmentation on a CPU: shared by compiled loops, and one that draws the views of the next batch."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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


def draw_ahead(
    batches: Iterable[Any], draw: Callable[[Any, int], Any], first_batch: int, n_threads: int
) -> Iterator[Any]:
    """Yield ``draw(batch, index)`` of every batch, computed one batch ahead in a thread of its own.

    Small convolutions and resampling both leave cores idle when they take turns on all of them; side by side, on
    separate cores, a step takes as long as the slower one. Until the last batch is drawn, torch has ``n_threads``
    fewer threads in the calling thread.

    Args:
        batches: Read in the calling thread.
        draw: Called with a batch and its index in the epoch; must not draw from a global random state.
        first_batch: Index of the first one of ``batches``.
        n_threads: Threads that torch and the compiled loops use in ``draw``; fewer than torch has now.
    """
    all_threads = torch.get_num_threads()
    pending: Future[Any] | None = None
    # set_num_threads counts for the thread that calls it
    with ThreadPoolExecutor(1, "views", initializer=partial(torch.set_num_threads, n_threads)) as pool:
        try:
            torch.set_num_threads(all_threads - n_threads)
            for index, batch in enumerate(batches, first_batch):
                following = pool.submit(draw, batch, index)
                if pending is not None:
                    yield pending.result()
                pending = following
            if pending is not None:
                views = pending.result()
                # a caller that counts batches does not ask for another one, so this is the last chance
                torch.set_num_threads(all_threads)
                yield views
        finally:
            torch.set_num_threads(all_threads)
