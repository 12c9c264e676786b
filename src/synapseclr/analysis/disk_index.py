"""Search of more synapses than fit into memory: an index in files, built in passes, answered from memory maps.

Features are rotated to their principal components (99 % of the variance), assigned to the cells of a k-means partition
and kept as product-quantised residuals of at most 64 bytes (IVF-PQ). The lists of codes and row numbers, at most 72
bytes a synapse, lie in one file, of which a query touches the cells nearest to it. It yields a shortlist, whose
distances are then computed from the features themselves, so that only the shortlist is approximate.

Source: Jegou et al. 2011, doi:10.1109/TPAMI.2010.57.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from synapseclr.analysis.feature_rows import FeatureRows, is_lazy, read_rows, row_blocks
from synapseclr.analysis.representations import BACKBONE, check_finite, layer_array, layer_features
from synapseclr.analysis.search import (
    FeatureIndex,
    IndexKind,
    Neighbours,
    Query,
    check_enough_others,
    chosen_index,
    exact_distances,
    nearest_others,
)
from synapseclr.errors import SynapseCLRError
from synapseclr.storage.addresses import is_local, plain_address
from synapseclr.storage.atomic_files import (
    MANIFEST,
    check_folder,
    locked,
    replace_folder,
    settle_folder,
    write_manifest,
    written_whole,
)

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

_VERSION = 1  # of the files
_ON_DISK_FROM = 3_000_000
_MAX_PASSES = 128
_EXPLAINED = 0.99  # share of the variance that the components have
_MAX_COMPONENTS = 128
_MAX_CODE_BYTES = 64
_COMPONENT_STEP = 8
_PCA_ROWS = 20_000
_POINTS_PER_LIST = 48  # training rows a list; below 39 k-means is poor
_POINTS_PER_CODE = 40  # training rows an entry of a codebook
_CODEBOOK_ITERATIONS = 8
_FINGERPRINT_READS, _FINGERPRINT_ROWS = 32, 4
_PROBES = 32  # cells looked into
_SHORTLIST_LEAST, _SHORTLIST_MORE = 32, 128  # candidates whose distances are computed: at least, and beyond k
_PAIR_VALUES = 5_000_000  # feature values of candidates held at a time
_QUERIES_AT_ONCE = 16_384  # their candidates are read in one pass over the features
_PREFETCHING_THREADS = 4
_INDEX, _LISTS, _PLAN, _TRAINED = "index.faiss", "lists.ivfdata", "plan.json", "trained.faiss"


def fingerprint(features: Any) -> str:
    """Digest of the shape and of 128 evenly spread rows, by which an index is known to be of these features."""
    n_rows, n_features = features.shape
    digest = hashlib.sha256(json.dumps([n_rows, n_features]).encode())
    n_read = min(_FINGERPRINT_ROWS, n_rows)
    for start in sorted({int(start) for start in np.linspace(0, n_rows - n_read, _FINGERPRINT_READS)}):
        digest.update(read_rows(features, range(start, start + n_read)).tobytes())
    return digest.hexdigest()[:32]


class DiskIndex(FeatureIndex):
    """Index in files over features in memory or lazy; what it holds in memory are the centres of the cells.

    Args:
        features: (n, f): in memory or with row slices, such as a dask array.
        folder: Folder that :func:`build_disk_index` has made; None: there is none, and every search is exact, by a
            pass over all features.

    Raises:
        SynapseCLRError: If the index is of other features.
    """

    features_nf: FeatureRows  # type: ignore[assignment]

    def __init__(self, features: Any, folder: str | Path | None) -> None:
        self.features_nf = FeatureRows(features)
        self.kind = "flat" if folder is None else "ivfpq"
        self._index = None
        if folder is not None:
            if not is_index_of(features, folder):
                raise SynapseCLRError(
                    f"{folder} is no index of these features. Run `kedro run --pipeline=similarity` again."
                )
            self._index = _read_index(Path(folder))

    def search(self, query_qf: np.ndarray, k: int) -> Neighbours:
        """Find the k synapses nearest to each query vector; see :meth:`FeatureIndex.search`."""
        self._check_enough(k)
        query_qf = np.ascontiguousarray(query_qf, dtype=np.float32)
        if self._index is None:
            return self.search_exactly(query_qf, k)
        n_candidates = self._n_candidates(k)
        parts = [
            self._search_part(query_qf[start : start + _QUERIES_AT_ONCE], k, n_candidates)
            for start in range(0, len(query_qf), _QUERIES_AT_ONCE)
        ]
        return Neighbours(*(np.concatenate(each) for each in zip(*parts, strict=True)))

    def _n_candidates(self, k: int) -> int:
        return min(len(self), max(_SHORTLIST_LEAST, min(4 * k, k + _SHORTLIST_MORE)))

    def _search_part(self, query_qf: np.ndarray, k: int, n_candidates: int) -> Neighbours:
        assert self._index is not None
        candidate_qc = self._index.search(query_qf, n_candidates)[1].astype(np.int64)
        distance_qc = self._candidate_distances(query_qf, candidate_qc)
        found = _nearest(candidate_qc, distance_qc, k)
        is_short_q = np.isinf(found.distances_qk[:, -1])
        if is_short_q.any():  # the cells hold fewer than k synapses
            exact = self.search_exactly(query_qf[is_short_q], k)
            found.indices_qk[is_short_q], found.distances_qk[is_short_q] = exact
        return found

    def _candidate_distances(self, query_qf: np.ndarray, candidate_qc: np.ndarray) -> np.ndarray:
        """Exact distances float32 (q, c), infinite where there is no candidate (-1); every row is read once."""
        distance_qc = np.full(candidate_qc.shape, np.inf, dtype=np.float32)
        pair_p = np.flatnonzero(candidate_qc.ravel() >= 0)
        pair_p = pair_p[np.argsort(candidate_qc.ravel()[pair_p], kind="stable")]
        row_p = candidate_qc.ravel()[pair_p]
        step = max(1, _PAIR_VALUES // query_qf.shape[1])
        for start in range(0, len(pair_p), step):
            rows_d, position_p = np.unique(row_p[start : start + step], return_inverse=True)
            query_p = pair_p[start : start + step] // candidate_qc.shape[1]
            distances = exact_distances(self.features_nf[rows_d], query_qf[query_p], position_p[:, None])
            distance_qc.ravel()[pair_p[start : start + step]] = distances[:, 0]
        return distance_qc

    def search_exactly(self, query_qf: np.ndarray, k: int, rows_m: np.ndarray | None = None) -> Neighbours:
        """Find the true nearest synapses by a pass over all features, one block in memory.

        Args:
            query_qf: float (q, f).
            k: Neighbours per query.
            rows_m: int64 (m,), ascending: the synapses to choose from; None: all.

        Returns:
            As :meth:`search`.
        """
        import faiss

        query_qf = np.ascontiguousarray(query_qf, dtype=np.float32)
        indices_qk = np.full((len(query_qf), k), -1, dtype=np.int64)
        distances_qk = np.full((len(query_qf), k), np.inf, dtype=np.float32)
        for chosen_r, block_rf in self.features_nf.blocks(rows_m):
            nearest_qk = faiss.knn(query_qf, block_rf, min(k, len(block_rf)))[1]
            found_qk = exact_distances(block_rf, query_qf, nearest_qk)
            indices_qk, distances_qk = _nearest(
                np.concatenate([indices_qk, chosen_r[nearest_qk]], axis=1),
                np.concatenate([distances_qk, found_qk], axis=1),
                k,
            )
        return Neighbours(indices_qk, distances_qk)

    def answers(self, queries: Sequence[Query], k: int, rows_m: np.ndarray | None = None) -> list[Neighbours]:
        """Answer queries, all of them at once; see :meth:`FeatureIndex.answers`.

        Of several points of a query, the candidates of all are pooled, so that 500 examples read hardly more rows than
        one. Eligible synapses are searched exactly, in one pass.
        """
        n_eligible = len(self) if rows_m is None else len(rows_m)
        for query in queries:
            check_enough_others(query, rows_m, n_eligible, k)
        points_pf = np.concatenate([query.points_pf for query in queries]).astype(np.float32)
        n_asked = min(n_eligible, k + max(len(query.rows_e) for query in queries))
        parts = np.split(np.arange(len(points_pf)), np.cumsum([len(query.points_pf) for query in queries])[:-1])
        if self._index is None or rows_m is not None:
            found = self.search_exactly(points_pf, n_asked, rows_m)
            nearest = [(found.indices_qk[part_p], found.distances_qk[part_p]) for part_p in parts]
            return [nearest_others(query, Neighbours(*each), k) for query, each in zip(queries, nearest, strict=True)]
        distance_pc, candidate_pc = self._index.search(points_pf, self._n_candidates(n_asked))
        pooled = [
            nearest_others(query, Neighbours(candidate_pc[part_p], distance_pc[part_p]), self._n_candidates(k))
            for query, part_p in zip(queries, parts, strict=True)
        ]
        rows_of_query = [each.indices_qk[0][each.indices_qk[0] >= 0] for each in pooled]
        read_r, ends = np.concatenate(rows_of_query), np.cumsum([len(rows) for rows in rows_of_query])[:-1]
        found_rf = np.split(self.vectors(read_r), ends)
        answers = []
        for query, rows_r, part_rf in zip(queries, rows_of_query, found_rf, strict=True):
            if len(rows_r) < k:  # the cells hold too few
                exact = self.search_exactly(query.points_pf, min(len(self), k + len(query.rows_e)))
                answers.append(nearest_others(query, exact, k))
            else:
                answers.append(_nearest(rows_r[None], query.distances(part_rf)[None], k))
        return answers


def _nearest(indices_qc: np.ndarray, distances_qc: np.ndarray, k: int) -> Neighbours:
    """The k nearest of each query's candidates; of equally near ones the first row first."""
    order_qk = np.lexsort((indices_qc, distances_qc), axis=1)[:, :k]
    return Neighbours(
        np.take_along_axis(indices_qc, order_qk, axis=1), np.take_along_axis(distances_qc, order_qk, axis=1)
    )


def layer_as_stored(embeddings: AnnData, layer: str = BACKBONE) -> Any:
    """Features (n, f) of a recorded layer: as they are if they are lazy, else as ``layer_features`` returns them."""
    found = layer_array(embeddings, layer)
    return found if is_lazy(found) else layer_features(embeddings, layer)


def is_too_large(features: Any) -> bool:
    """Tell features that are searched on the disk unless another index is demanded.

    These are lazy ones, those of three million synapses and more, and those of 500,000 and more whose copy in an index
    in memory would not fit into what is free.
    """
    import psutil

    if is_lazy(features):
        return True
    n_synapses = len(features)
    has_no_room = features.nbytes > psutil.virtual_memory().available
    return n_synapses >= _ON_DISK_FROM or (chosen_index(n_synapses, "auto") != "flat" and has_no_room)


def open_index(features: Any, kind: IndexKind | Literal["ivfpq"], folder: str | Path, name: str) -> FeatureIndex:
    """Make the index of a kind, or open the one in files, which is built if it is not there.

    Args:
        features: (n, f): float32 in memory, or lazy.
        kind: As for :class:`FeatureIndex`; ``ivfpq``: in files; ``auto``: in files where :func:`is_too_large` says so.
        folder: Folder of an index in files.
        name: Name of the features, for messages.
    """
    if kind == "ivfpq" or (kind == "auto" and is_too_large(features)):
        if is_local(folder):
            return DiskIndex(features, build_disk_index(features, plain_address(folder), name))
        logger.warning("%s is in a bucket: the index lies in a temporary folder, and is deleted after the run.", folder)
        with tempfile.TemporaryDirectory() as temporary:  # what is open stays readable
            return DiskIndex(features, build_disk_index(features, Path(temporary, "feature_index"), name))
    if is_lazy(features) and kind == "flat":
        return DiskIndex(features, None)
    features_nf = np.ascontiguousarray(features, dtype=np.float32)
    check_finite(features_nf, name)
    return FeatureIndex(features_nf, kind)


def is_index_of(features: Any, folder: str | Path) -> bool:
    """Tell whether a folder holds a whole index of these features."""
    folder = Path(folder)
    settle_folder(folder)
    if not (folder / MANIFEST).is_file():
        return False
    return _read_plan(folder).get("fingerprint") == fingerprint(features)


def build_disk_index(features: Any, folder: str | Path, name: str = "features") -> Path:
    """Make an index in files, or go on with one whose building was interrupted; one that is there already is kept.

    Rows are read in blocks: a sample for training, then all of them once. What a killed process has finished, the
    training and the lists of each pass, is not made again, and the result is the same.

    Args:
        features: (n, f): in memory or with row slices, such as a dask array.
        folder: Local folder of the index. While it is built, parts lie beside it, in ``<folder>.building``.
        name: Name of the features, for messages.

    Returns:
        The folder.

    Raises:
        SynapseCLRError: If features are not finite.
    """
    folder = Path(folder)
    plan = _make_plan(features)
    building = folder.with_name(f"{folder.name}.building")
    with locked(building, patience_seconds=86_400):
        settle_folder(folder)
        if (folder / MANIFEST).is_file() and _read_plan(folder) == plan:
            check_folder(folder)
            return folder
        if not (building / MANIFEST).is_file() or _read_plan(building) != plan:
            _build(features, building, plan, name)
        replace_folder(building, folder)
    return folder


def _make_plan(features: Any) -> dict[str, Any]:
    """All that determines the index."""
    n_rows, n_features = (int(size) for size in features.shape)
    return {
        "version": _VERSION,
        "fingerprint": fingerprint(features),
        "n_synapses": n_rows,
        "n_features": n_features,
        "n_lists": max(1, min(math.isqrt(n_rows), n_rows // _POINTS_PER_LIST)),
    }


def _read_plan(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / _PLAN).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _build(features: Any, building: Path, plan: dict[str, Any], name: str) -> None:
    import faiss

    if _read_plan(building) != plan:
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        with written_whole(building / _PLAN, is_recorded=False) as partial:
            partial.write_text(json.dumps(plan))
    trained = building / _TRAINED
    if not trained.is_file():
        with written_whole(trained, is_recorded=False) as partial:
            faiss.write_index(_train(features, plan["n_lists"], name), str(partial))
    blocks = row_blocks(*features.shape)
    per_pass = math.ceil(len(blocks) / _MAX_PASSES)
    passes = [blocks[first : first + per_pass] for first in range(0, len(blocks), per_pass)]
    parts = [building / f"pass-{number:05d}.faiss" for number in range(len(passes))]
    n_there = sum(part.is_file() for part in parts)
    if n_there:
        logger.info("%d of %d passes of the index are there already: going on.", n_there, len(parts))
    for part, part_blocks in zip(parts, passes, strict=True):
        if not part.is_file():
            _write_pass(features, part_blocks, trained, part, name)
            logger.info("Index: %s of %s synapses", f"{part_blocks[-1].stop:,}", f"{len(features):,}")
    _merge(building, trained, parts)


def _train(features: Any, n_lists: int, name: str) -> Any:
    """Fit components, cells and codes to a sample that is spread evenly over the rows."""
    import faiss

    n_features = features.shape[1]
    rows = FeatureRows(features)
    sample_sf = np.concatenate([part for _, part in rows.sample(max(_PCA_ROWS, 2 * n_features))])
    check_finite(sample_sf, name)
    transform = faiss.PCAMatrix(n_features, _n_components(sample_sf), 0, True)
    transform.train(sample_sf)
    n_sampled = max(_POINTS_PER_LIST * n_lists, _POINTS_PER_CODE * 256)
    sample_sd = np.concatenate([transform.apply(part) for _, part in rows.sample(n_sampled)])
    n_components = sample_sd.shape[1]
    n_bytes = n_components if n_components <= _MAX_CODE_BYTES else n_components // 2
    n_bits = min(8, len(sample_sd).bit_length() - 1)
    index = faiss.IndexIVFPQ(faiss.IndexFlatL2(n_components), n_components, n_lists, n_bytes, n_bits)
    index.use_precomputed_table = -1  # 256 entries a list and byte in memory, to save little
    for parameters, n_points in ((index.cp, _POINTS_PER_LIST), (index.pq.cp, _POINTS_PER_CODE)):
        parameters.min_points_per_centroid = 1  # else faiss prints a warning about a handful of synapses
        parameters.max_points_per_centroid = n_points
    index.pq.cp.niter = _CODEBOOK_ITERATIONS
    index.train(sample_sd)
    index.nprobe = min(_PROBES, n_lists)
    whole: Any = faiss.IndexPreTransform(transform, index)
    whole.referenced_objects = [transform, index]  # SWIG does not count references of its own
    return whole


def _n_components(sample_sf: np.ndarray) -> int:
    """Components that have 99 % of the variance, in steps of eight; at most 128."""
    n_features = sample_sf.shape[1]
    if n_features == 1:
        return 1
    variance_f = np.linalg.eigvalsh(np.cov(sample_sf, rowvar=False))[::-1].clip(min=0)
    share_f = np.cumsum(variance_f) / max(variance_f.sum(), np.finfo(float).tiny)
    n_needed = int(np.searchsorted(share_f, _EXPLAINED)) + 1
    found = min(math.ceil(n_needed / _COMPONENT_STEP) * _COMPONENT_STEP, _MAX_COMPONENTS, n_features)
    return found if found <= _MAX_CODE_BYTES else found // 2 * 2  # beyond, two share a byte


def _write_pass(features: Any, blocks: list[range], trained: Path, part: Path, name: str) -> None:
    """Assign and encode the rows of some blocks, and write their lists."""
    import faiss

    index = faiss.read_index(str(trained))
    for rows in blocks:
        block_rf = read_rows(features, rows)
        check_finite(block_rf, name)
        index.add_with_ids(block_rf, np.arange(rows.start, rows.stop))
    with written_whole(part, is_recorded=False) as partial:
        faiss.write_index(index, str(partial))


def _merge(building: Path, trained: Path, parts: list[Path]) -> None:
    """Join the lists of all passes in one file, and finish the folder."""
    import faiss
    from faiss.contrib.ondisk import merge_ondisk

    index = faiss.read_index(str(trained))
    (building / _LISTS).unlink(missing_ok=True)
    merge_ondisk(index, [str(part) for part in parts], str(building / _LISTS))
    with written_whole(building / _INDEX, is_recorded=False) as partial:
        faiss.write_index(index, str(partial))
    del index
    for path in (*parts, trained):
        path.unlink()
    write_manifest(building)


def _read_index(folder: Path) -> Any:
    """Open an index; its lists stay on the disk, mapped into memory."""
    import faiss

    # faiss knows the path at which the lists were written, and prints it if it is told to look beside the index.
    flags = faiss.IO_FLAG_SKIP_IVF_DATA | faiss.IO_FLAG_READ_ONLY | faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE
    index = faiss.read_index(str(folder / _INDEX), flags)
    ivf: Any = faiss.extract_index_ivf(index)
    lists: Any = faiss.downcast_InvertedLists(ivf.invlists)
    lists.filename = str(folder / _LISTS)
    lists.do_mmap()
    lists.prefetch_nthread = _PREFETCHING_THREADS  # faiss starts 32 for every query
    return index
