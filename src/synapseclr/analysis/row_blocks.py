"""Analyses of features that exceed memory: functions go over blocks of rows, and what is finished is kept.

``RowBlocks`` takes arrays of the same synapses, in memory or lazy (dask), and gives a function the same rows of each::

    with RowBlocks("outlier scores", (features_nf, statistics_nk), config) as blocks:
        moments = blocks.moments()
        found = blocks.map(score_block, moments.mean_f, description="Scoring outliers")
        score_n = found.column("score")

Blocks are computed by dask: in this process, one or a few at a time; by processes of this machine; or by the workers of
a cluster. Of lazy arrays, each block's result is a file, written whole, in a folder whose name is a digest of all that
determines it; so the same command goes on where a killed one has stopped, and gives the same numbers. The folder is
deleted when the ``with`` block ends without error. Results are merged in the order of the rows, whoever computed them.
"""

from __future__ import annotations

import io
import logging
import math
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from pydantic import Field

from synapseclr.analysis.feature_rows import FeatureRows
from synapseclr.errors import OutputError, SynapseCLRError
from synapseclr.parameters import Parameters
from synapseclr.storage.object_folder import ObjectFolder
from synapseclr.storage.sharded_anndata import BLOCK_ROWS, is_lazy, stored_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]
"""Results of a function for a block, by name."""

_known_moments: dict[str, Moments] = {}  # of this process, by the digest of what they are of: passes cost minutes
_MOST_KNOWN = 16
_ROWS_AT_ONCE = 256  # single rows read between two steps of a progress bar
_VERSION = 1  # goes up when the same function would give other results


class RowBlocksConfig(Parameters):
    """Blocks of rows of features that exceed memory: their size, and who computes them."""

    rows: int = Field(
        default=BLOCK_ROWS, ge=1, description="Rows of a block, about; memory holds some copies of a block a thread."
    )
    threads: int = Field(default=2, ge=1, description="Blocks computed at a time in the run's own process.")
    workers: int = Field(
        default=0, ge=0, description="Processes of dask that compute blocks on this machine; 0: the run's own."
    )
    scheduler_address: str | None = Field(
        default=None, description="Address of a dask scheduler (tcp://host:8786) whose workers compute the blocks."
    )
    folder: str = Field(
        default="data/02_intermediate/row_blocks",
        description="Path or URL where results of finished blocks are kept until an analysis is complete.",
    )

    @property
    def is_distributed(self) -> bool:
        """Tell whether blocks are computed by workers of dask."""
        return bool(self.workers or self.scheduler_address)


HERE = RowBlocksConfig()
"""Blocks of the default size, computed in this process."""


class Moments(NamedTuple):
    """Means, covariances and ranges of columns, which merge: of two sets of rows to those of all rows.

    Source: Chan, Golub & LeVeque 1979, Updating formulae and a pairwise algorithm for computing sample variances,
    equations 2.1.

    Attributes:
        n: Rows, int64, shape ().
        mean_f: float64 (f,).
        scatter_ff: Sum of products of deviations from the mean, float64 (f, f).
        lowest_f: float64 (f,).
        highest_f: float64 (f,).
        n_not_finite: Rows with NaN or infinity, int64, shape (); they make the other moments NaN.
    """

    n: NDArray[np.int64]
    mean_f: NDArray[np.float64]
    scatter_ff: NDArray[np.float64]
    lowest_f: NDArray[np.float64]
    highest_f: NDArray[np.float64]
    n_not_finite: NDArray[np.int64]

    @classmethod
    def of(cls, features_nf: np.ndarray) -> Moments:
        """Moments of the rows of an array in memory, at least one."""
        rows_nf = np.asarray(features_nf, np.float64)
        mean_f = rows_nf.mean(axis=0)
        deviation_nf = rows_nf - mean_f
        # What rounding left of the mean would be multiplied by n when blocks are merged.
        mean_f = mean_f + deviation_nf.mean(axis=0)
        n_bad = (~np.isfinite(rows_nf)).any(axis=1).sum()
        return cls(
            np.asarray(len(rows_nf), np.int64),
            mean_f,
            deviation_nf.T @ deviation_nf,
            rows_nf.min(axis=0),
            rows_nf.max(axis=0),
            np.asarray(n_bad, np.int64),
        )

    def merge(self, other: Moments) -> Moments:
        """Moments of the rows of both."""
        n = self.n + other.n
        step_f = other.mean_f - self.mean_f
        return Moments(
            np.asarray(n, np.int64),
            self.mean_f + step_f * (other.n / n),
            self.scatter_ff + other.scatter_ff + np.outer(step_f, step_f) * (self.n * other.n / n),
            np.minimum(self.lowest_f, other.lowest_f),
            np.maximum(self.highest_f, other.highest_f),
            np.asarray(self.n_not_finite + other.n_not_finite, np.int64),
        )

    @property
    def covariance_ff(self) -> NDArray[np.float64]:
        """Covariances of the columns, of a population: divided by n."""
        return np.asarray(self.scatter_ff / self.n)

    @property
    def std_f(self) -> NDArray[np.float64]:
        """Standard deviations of the columns, of a population."""
        return np.asarray(np.sqrt(np.diagonal(self.scatter_ff) / self.n))


def _moments(*arrays: np.ndarray, part: int | None) -> Arrays:
    return Moments.of(np.hstack(arrays) if part is None else arrays[part])._asdict()


def _merged_moments(one: Arrays, other: Arrays) -> Arrays:
    return Moments(**one).merge(Moments(**other))._asdict()


def _chosen(*arrays: np.ndarray) -> Arrays:
    return {str(part): array[arrays[-1]] for part, array in enumerate(arrays[:-1])}


@dataclass(frozen=True)
class BlockResults:
    """Results of a function for every block, in the order of the rows: in memory, or in files that are read on demand.

    Attributes:
        parts: By block: arrays by name, or the key of their file.
        folder: Where the files are; None if there are none.
    """

    parts: tuple[Arrays | str, ...]
    folder: ObjectFolder | None = None

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Arrays]:
        return (self[block] for block in range(len(self.parts)))

    def __getitem__(self, block: int) -> Arrays:
        part = self.parts[block]
        if not isinstance(part, str):
            return part
        assert self.folder is not None
        return _read(self.folder, part)

    def column(self, name: str) -> np.ndarray:
        """Join one of the arrays over the blocks, in memory."""
        return np.concatenate([found[name] for found in self])

    def columns(self) -> Arrays:
        """Join all arrays over the blocks, in memory; every file is read once, and no block is held for long."""
        joined: dict[str, np.ndarray] = {}
        filled: dict[str, int] = {}
        for found in self:
            for name, values in found.items():
                start, end = filled.get(name, 0), filled.get(name, 0) + len(values)
                whole = joined.get(name, values[:0])
                kind = np.result_type(whole, values)
                if end > len(whole) or kind != whole.dtype:
                    # As long as all blocks would be if they were like this one; what is not filled takes no memory.
                    longer = np.empty((max(end, len(self) * len(values)), *values.shape[1:]), kind)
                    longer[:start] = whole[:start]
                    joined[name] = whole = longer
                whole[start:end] = values
                filled[name] = end
        return {name: whole[: filled[name]] for name, whole in joined.items()}

    def lazy(self, name: str) -> Any:
        """One of the arrays as a dask array whose blocks are read from the files; of results in memory, joined."""
        if self.folder is None:
            return self.column(name)
        import dask
        import dask.array as da

        first = self[0][name]
        sizes = [len(self[block][name]) for block in range(len(self))]
        pieces = [
            da.from_delayed(
                dask.delayed(_read_array, pure=True)(self.folder, key, name), (size, *first.shape[1:]), first.dtype
            )
            for key, size in zip(self.parts, sizes, strict=True)
        ]
        return da.concatenate(pieces)

    def merged(self, merge: Callable[[Arrays, Arrays], Arrays]) -> Arrays:
        """Merge what the function made of the blocks, pair by pair, in the order of the rows."""
        return reduce(merge, self)


class RowBlocks:
    """Blocks of rows of arrays of the same synapses.

    Args:
        name: Of the analysis, for messages and the folder of its results.
        arrays: In memory or lazy (dask), all with the same number of rows n. Names of dask arrays are digests of their
            contents, as those that :class:`synapseclr.datasets.AnnDataZarrDataset` loads and all derived from them.
        config: Size of the blocks, and who computes them.
    """

    def __init__(self, name: str, arrays: Sequence[Any], config: RowBlocksConfig = HERE) -> None:
        self.name, self.config = name, config
        lengths = {int(array.shape[0]) for array in arrays}
        if len(lengths) != 1:
            raise ValueError(f"The arrays of '{name}' have different numbers of rows: {sorted(lengths)}.")
        (self.n_rows,) = lengths
        self.is_lazy = any(is_lazy(array) for array in arrays)
        self.bounds = _bounds(arrays, self.n_rows, self.config.rows)
        self._given = tuple(arrays)
        sizes = tuple(int(size) for size in np.diff(self.bounds))
        self.arrays = tuple(
            array.rechunk({0: sizes, **dict.fromkeys(range(1, array.ndim), -1)}) if is_lazy(array) else array
            for array in arrays
        )
        self._used: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is None:
            self.forget()

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @cached_property
    def folder(self) -> ObjectFolder:
        """Folder in which results of finished blocks are kept."""
        address = self.config.folder
        return ObjectFolder(address if "://" in address else str(Path(address).resolve()))

    def map(
        self,
        function: Callable[..., Mapping[str, np.ndarray]],
        *arguments: Any,
        description: str,
        key: str | None = None,
        **options: Any,
    ) -> BlockResults:
        """Call a function with every block.

        Args:
            function: Called with the rows of a block of every array, then ``arguments`` and ``options``; a function
                of a module, which workers can import. Returns arrays by name, with or without a row per synapse.
            arguments: The same for all blocks.
            description: For the progress bar, such as ``Scoring outliers``.
            key: Digest of the arguments, where dask cannot tell one from their contents, as of models of torch.
            options: Passed on by name.

        Returns:
            The results, block by block.

        Raises:
            OutputError: If a result cannot be kept.
            WorkerError: If workers of dask are lost again and again.
        """
        groups = [range(block, block + 1) for block in range(len(self))]
        return self._compute(groups, function, None, arguments, options, description, key)

    def reduce(
        self,
        function: Callable[..., Mapping[str, np.ndarray]],
        merge: Callable[[Arrays, Arrays], Arrays],
        *arguments: Any,
        description: str,
        key: str | None = None,
        blocks_per_result: int = 16,
        **options: Any,
    ) -> Arrays:
        """Call a function with every block, and merge what it returns: in groups of blocks first, then all groups.

        Args:
            function: As of :meth:`map`.
            merge: Of two results makes one; a function of a module.
            arguments: As of :meth:`map`.
            description: As of :meth:`map`.
            key: As of :meth:`map`.
            blocks_per_result: Blocks whose merged result is kept as one file.
            options: As of :meth:`map`.
        """
        groups = [
            range(first, min(first + blocks_per_result, len(self))) for first in range(0, len(self), blocks_per_result)
        ]
        return self._compute(groups, function, merge, arguments, options, description, key).merged(merge)

    def moments(self, part: int | None = 0) -> Moments:
        """Means, covariances and ranges of the columns of one of the arrays.

        Args:
            part: Which array; None: all of them side by side.

        Raises:
            SynapseCLRError: If values are not finite; with the number of rows.
        """
        from dask.tokenize import tokenize

        of_arrays = [array.name if is_lazy(array) else array for array in self.arrays]
        digest = tokenize(of_arrays, self.bounds, part) if self.is_lazy else ""
        if digest and digest in _known_moments:
            return _known_moments[digest]
        found = self.reduce(_moments, _merged_moments, description=f"Moments for {self.name}", part=part)
        moments = Moments(**found)
        if moments.n_not_finite:
            raise SynapseCLRError(
                f"Features are not finite for {int(moments.n_not_finite)} of {self.n_rows} synapses. The encoder has "
                "diverged: lower the learning rate or use fp32, then run pretraining and embedding again."
            )
        if digest:
            if len(_known_moments) >= _MOST_KNOWN:
                _known_moments.pop(next(iter(_known_moments)))
            _known_moments[digest] = moments
        return moments

    def rows(self, rows_m: np.ndarray) -> tuple[np.ndarray, ...]:
        """Some rows of all arrays, in memory.

        Args:
            rows_m: int (m,), strictly ascending.
        """
        if not self.is_lazy:
            return tuple(np.asarray(array[rows_m]) for array in self.arrays)
        if self._are_few(rows_m):
            return self._few_rows(rows_m)
        is_chosen_n = np.zeros(self.n_rows, bool)
        is_chosen_n[rows_m] = True
        with RowBlocks(self.name, (*self.arrays, is_chosen_n), self.config) as blocks:
            found = blocks.map(_chosen, description=f"Sample for {self.name}").columns()
        return tuple(found[str(part)] for part in range(len(self.arrays)))

    def _are_few(self, rows_m: np.ndarray) -> bool:
        """Tell whether the stored chunks that hold some rows are less than half of all."""
        stored = [stored_array(array) if array.dtype == np.float32 else None for array in self._given if is_lazy(array)]
        return all(array is not None and 2 * len(rows_m) * array.chunks[0] < self.n_rows for array in stored)

    def _few_rows(self, rows_m: np.ndarray) -> tuple[np.ndarray, ...]:
        from rich.progress import track

        pieces = np.array_split(rows_m, max(1, math.ceil(len(rows_m) / _ROWS_AT_ONCE)))
        read = [FeatureRows(array) if is_lazy(array) else array for array in self._given]
        found = [
            [np.asarray(array[rows_p]) for array in read]
            for rows_p in track(pieces, description=f"Sample for {self.name}")
        ]
        return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))

    def forget(self) -> None:
        """Delete the results that are kept of finished blocks."""
        for prefix in sorted(self._used):
            for key in self.folder.keys(prefix):
                self.folder.delete(key)
            if not self.folder.is_remote:
                place = Path(self.folder.url, prefix)
                for folder in (place, place.parent):
                    if folder.is_dir() and not any(folder.iterdir()):
                        folder.rmdir()
        self._used.clear()

    def _compute(
        self,
        groups: list[range],
        function: Callable[..., Mapping[str, np.ndarray]],
        merge: Callable[[Arrays, Arrays], Arrays] | None,
        arguments: tuple[Any, ...],
        options: dict[str, Any],
        description: str,
        key: str | None,
    ) -> BlockResults:
        if not self.is_lazy and not self.config.is_distributed:
            return BlockResults(self._in_threads(groups, function, merge, (arguments, options), description))
        prefix = self._prefix(function, arguments, options, key, [len(group) for group in groups])
        self._used.add(prefix)
        keys = [f"{prefix}/{group.start:06d}.npz" for group in groups]
        there = set(self.folder.keys(prefix))
        left = [number for number, name in enumerate(keys) if name not in there]
        if len(left) < len(keys):
            logger.info("%s: %d of %d blocks are there already.", description, len(keys) - len(left), len(keys))
        if left:
            call = (function, merge, arguments, options)
            self._submit([groups[n] for n in left], [keys[n] for n in left], call, description)
        return BlockResults(tuple(keys), self.folder)

    def _in_threads(
        self,
        groups: list[range],
        function: Callable[..., Mapping[str, np.ndarray]],
        merge: Callable[[Arrays, Arrays], Arrays] | None,
        shared: tuple[tuple[Any, ...], dict[str, Any]],
        description: str,
    ) -> tuple[Arrays, ...]:
        """Compute groups of blocks of arrays in memory, with a progress bar if there are several."""
        from concurrent.futures import ThreadPoolExecutor

        from rich.progress import track
        from threadpoolctl import threadpool_limits

        def compute(group: range) -> Arrays:
            parts = []
            for block in group:
                rows = slice(int(self.bounds[block]), int(self.bounds[block + 1]))
                parts.append(_call(function, shared, *(array[rows] for array in self.arrays)))
            return reduce(merge, parts) if merge else parts[0]

        with ThreadPoolExecutor(self.config.threads) as pool, threadpool_limits(1, user_api="blas"):  # as in _call
            made = pool.map(compute, groups)
            return tuple(track(made, description, total=len(groups), disable=len(groups) == 1))

    def _prefix(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        options: dict[str, Any],
        key: str | None,
        sizes: list[int],
    ) -> str:
        """Folder of a function's results: the name of the analysis, and a digest of all that determines them."""
        from dask.tokenize import tokenize

        from synapseclr import __version__

        of_arrays = [array.name if is_lazy(array) else array for array in self.arrays]
        given = key if key is not None else (arguments, sorted(options.items()))
        qualified = f"{function.__module__}.{function.__qualname__}"
        digest = tokenize(
            _VERSION, __version__, qualified, given, of_arrays, self.bounds, sizes, ensure_deterministic=True
        )
        return f"{self.name.replace(' ', '_')}/{digest}"

    def _submit(
        self,
        groups: list[range],
        keys: list[str],
        call: tuple[Callable[..., Any], Callable[[Arrays, Arrays], Arrays] | None, tuple[Any, ...], dict[str, Any]],
        description: str,
    ) -> None:
        """Compute groups of blocks by dask and keep their results, with a progress bar of blocks."""
        import dask
        from rich.progress import Progress

        function, merge, arguments, options = call
        lazy = [list(array.to_delayed().reshape(-1)) if is_lazy(array) else None for array in self.arrays]
        # Sent to each worker once, not with every block.
        shared = dask.delayed((arguments, options), name=f"arguments-{uuid.uuid4().hex}", traverse=False)
        tasks = []
        for group, key in zip(groups, keys, strict=True):
            parts = []
            for block in group:
                rows = slice(int(self.bounds[block]), int(self.bounds[block + 1]))
                given = [
                    found[block] if found is not None else array[rows]
                    for found, array in zip(lazy, self.arrays, strict=True)
                ]
                parts.append(dask.delayed(_call, pure=False)(function, shared, *given))
            whole = reduce(lambda one, other: dask.delayed(merge, pure=False)(one, other), parts)
            tasks.append(dask.delayed(_keep, pure=False)(self.folder, key, whole))
        total = len(self)
        with Progress() as progress:
            bar = progress.add_task(description, total=total, completed=total - sum(len(group) for group in groups))
            if self.config.is_distributed:
                size = {key: len(group) for key, group in zip(keys, groups, strict=True)}
                for key in self._by_workers(tasks):
                    progress.advance(bar, size[key])
                return
            names = {task.key: len(group) for task, group in zip(tasks, groups, strict=True)}

            def advance(name: Any, *_: Any) -> None:
                progress.advance(bar, names.get(name, 0))

            from dask.callbacks import Callback
            from threadpoolctl import threadpool_limits

            with Callback(posttask=advance), threadpool_limits(1, user_api="blas"):  # as in _call
                dask.compute(*tasks, scheduler="threads", num_workers=self.config.threads, optimize_graph=True)

    def _by_workers(self, tasks: list[Any]) -> Iterator[str]:
        """Compute by the workers of a scheduler; yields the keys of what they keep, as they end."""
        from synapseclr.storage.dask_client import TASK_RETRIES, connected, results_as_completed

        advice = (
            f"The finished blocks of '{self.name}' are kept: run the same command again, with more memory a worker or "
            "a smaller row_blocks.rows."
        )
        with connected(self.config.scheduler_address, self.config.workers, "row_blocks") as client:
            futures = client.compute(tasks, retries=TASK_RETRIES, optimize_graph=True)
            yield from results_as_completed(futures, advice)


def sample_rows(n_rows: int, size: int, seed: int) -> NDArray[np.int64]:
    """Draw rows at random without replacement, ascending; all of them if there are not more than wanted."""
    if size >= n_rows:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(seed).choice(n_rows, size=size, replace=False))


def _bounds(arrays: Sequence[Any], n_rows: int, rows: int) -> NDArray[np.int64]:
    """First rows of the blocks, and the end: blocks of the first lazy array if these are about as long as wanted.

    Blocks that are shorter are joined; longer ones are cut.
    """
    lazy = next((array for array in arrays if is_lazy(array)), None)
    if lazy is None or max(lazy.chunks[0], default=0) > 2 * rows:
        bounds = [*range(0, n_rows, rows), n_rows]
    else:
        bounds, end = [0], 0
        for size in lazy.chunks[0]:
            if end > bounds[-1] and end + size - bounds[-1] > rows:
                bounds.append(end)
            end += int(size)
        bounds.append(end)
    return np.unique(np.asarray(bounds, np.int64)) if n_rows else np.zeros(1, np.int64)


def _call(function: Callable[..., Any], shared: tuple[tuple[Any, ...], dict[str, Any]], *arrays: np.ndarray) -> Arrays:
    from threadpoolctl import threadpool_limits

    arguments, options = shared
    # Blocks are computed side by side. Threads of libraries within them wait for each other by spinning: where another
    # process has a core, three quarters of the time went there. This limit is of this thread, and of PyTorch.
    with threadpool_limits(1, user_api="openmp"):
        return dict(function(*(np.asarray(array) for array in arrays), *arguments, **options))


def _keep(folder: ObjectFolder, key: str, result: Arrays) -> str:
    content = io.BytesIO()
    np.savez(content, **result)  # type: ignore[arg-type]
    folder.write(key, content.getvalue(), scratch=None)
    return key


def _read(folder: ObjectFolder, key: str) -> Arrays:
    try:
        with np.load(io.BytesIO(folder.read(key)), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise OutputError(
            f"{folder.address(key)}, the result of a block, is damaged ({error}). Delete it, and run the same command "
            "again."
        ) from error


def _read_array(folder: ObjectFolder, key: str, name: str) -> np.ndarray:
    return _read(folder, key)[name]
