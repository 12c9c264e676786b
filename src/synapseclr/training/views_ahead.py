"""Views of the next batch, drawn while the network works on the present one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import torch


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
