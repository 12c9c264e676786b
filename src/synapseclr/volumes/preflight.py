"""Look at tables and volumes before the first chunk is cut: layers, a sample of the synapses, and likely causes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synapseclr.errors import (
    ConfigurationError,
    DecoderError,
    InputError,
    SynapseCLRError,
    UnreachableError,
    VolumeError,
)
from synapseclr.volumes.cutting import centres_vx, check_layer, layers_to_read, open_cutter, points_vx
from synapseclr.volumes.input_shares import LABELS, Finding, Share, as_document, judge, neurite_shares
from synapseclr.volumes.layers.resampling import ResampledLayer, open_on_grid
from synapseclr.volumes.root_versions import PROVENANCE, RootVersion, disagreement
from synapseclr.volumes.synapse_cutter import Site
from synapseclr.volumes.synapse_table import POSITION_COLUMNS, UNIT_NM

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from synapseclr.volumes.config import PreprocessingConfig
    from synapseclr.volumes.layers.layer import OpenLayer, VolumeLayer
    from synapseclr.volumes.synapse_cutter import Examination, SynapseCutter

logger = logging.getLogger(__name__)

_SEED = 0
_CLEFT = 2  # place of the cleft volume among the layers
_READ_AHEAD = 16
_MOST_TRIED = 12  # synapses by which a setting is judged
_POSITION_KINDS = ("outside", "at_border", "cleft_far", "no_contact", "without_either")
_LAYER_SHIFT = 56  # of a chunked graph's ids, the highest byte is the layer: 1 for supervoxels, more for what they form
_EXACT_BELOW = 2**53
_LEAST_INSIDE, _LEAST_FITTING = 0.75, 0.5
_CLEARLY_BETTER = 0.3
_UNIT_OF_PARAMETER = "preprocessing.position_voxel_size_nm"
_UNIT_OF_ENTRY = "unit_nm of the catalog's synapse_table (a SynapseTableDataset)"
_MOST_OF_THEM = 0.8  # share of clefts with their synapse's id from which on ids are those of synapses
_MOST_SETTINGS = 8  # read the volumes, those before them only the bounds

Score = Callable[["NDArray[np.int64]"], float]


def diagnose_ids(table_ids: NDArray[np.int64], ids_near: NDArray[np.uint64]) -> str:
    """Say why no root id of a table occurs near its synapses.

    Args:
        table_ids: Root ids of the sampled synapses, without 0.
        ids_near: Distinct ids of the segmentation around these synapses, without 0.

    Returns:
        The likeliest cause, with one id of each.
    """
    if not len(ids_near):
        return (
            "The segmentation holds background only around these synapses: most likely the path in the catalog is "
            "beside the real one, or the positions have another unit or axis order."
        )
    seen = f"the table has {table_ids[0]}, the segmentation {ids_near[0]} there"
    layer_of_table, layer_near = np.median(table_ids >> _LAYER_SHIFT), np.median(ids_near >> np.uint64(_LAYER_SHIFT))
    if layer_near == 1 and layer_of_table > 1:
        return (
            f"Most likely the segmentation holds supervoxels, which are not agglomerated ({seen}): the highest byte of "
            "a chunked graph's ids is 1 for supervoxels. Read the graph itself at the table's version (docs/cave.md)."
        )
    is_rounded = (table_ids > _EXACT_BELOW) & (np.array([int(float(i)) == i for i in table_ids.tolist()]))
    if is_rounded.all():
        return (
            f"Most likely the table's ids were rounded by a spreadsheet or by a float column ({seen}): all of them are "
            "numbers that a double-precision float holds exactly. Export the table again, with ids as text or integers."
        )
    return (
        f"Most likely the table is of another version of the segmentation ({seen}). Take table and segmentation of "
        "one version, or look the root ids up again at the segmentation's timestamp (docs/cave.md)."
    )


def diagnose_positions(
    synapses: pd.DataFrame,
    config: PreprocessingConfig,
    is_inside: Score,
    fit: Score,
    corner_vx: NDArray[np.int64] | None = None,
    scales_nm: Sequence[tuple[float, float, float]] = (),
) -> str | None:
    """Look for a unit, an axis order or an origin with which positions fit the volumes.

    Args:
        synapses: Some rows of the synapse table.
        config: Its unit and the chunks' resolution.
        is_inside: Share of centres (n, 3) that lie in the volume; costs nothing.
        fit: Share of centres that have a cleft and their neurites nearby; reads the volumes.
        corner_vx: First voxel (3,) of the EM volume, of which positions in a cut-out may not know; none by default.
        scales_nm: Voxel sizes of the layers, where they are others than the chunks'.

    Returns:
        The setting that fits clearly better than the present one, in a sentence; None if there is none.
    """
    unit_nm = config.position_unit_nm
    read_nm = synapses.attrs.get(UNIT_NM)  # of positions that came in nm, and now are in units of the parameter
    setting = _UNIT_OF_PARAMETER if read_nm is None else _UNIT_OF_ENTRY
    tried: list[tuple[float, str, NDArray[np.int64]]] = []
    of_layers = [(x * f, y * f, z) for x, y, z in scales_nm for f in (1, 1 / 2)]
    for right_nm in dict.fromkeys([*of_layers, *_units(config.voxel_size_nm)]):
        if right_nm != tuple(read_nm or unit_nm):
            listed = [f"{v:g}" for v in right_nm]
            text = f"the positions are in units of {' x '.join(listed)} nm: set {setting} to [{', '.join(listed)}]"
            x, y, z = (n * u / r for n, u, r in zip(right_nm, unit_nm, read_nm or unit_nm, strict=True))
            centre_vx = centres_vx(synapses, (x, y, z), config)
            tried.append((is_inside(centre_vx), text, centre_vx))
    for order in list(permutations(range(3)))[1:]:
        swapped = synapses.copy()
        swapped[POSITION_COLUMNS] = synapses[[POSITION_COLUMNS[axis] for axis in order]].to_numpy()
        text = f"the axes are in another order: {', '.join(POSITION_COLUMNS)} hold " + ", ".join(
            "xyz"[order.index(axis)] for axis in range(3)
        )
        centre_vx = centres_vx(swapped, unit_nm, config)
        tried.append((is_inside(centre_vx), text, centre_vx))
    tried = [entry for entry in sorted(tried, key=lambda entry: -entry[0]) if entry[0] >= _LEAST_INSIDE]
    del tried[_MOST_SETTINGS:]
    if corner_vx is not None and np.any(corner_vx):
        tried += [
            entry for entry in _other_origins(synapses, config, is_inside, corner_vx) if entry[0] >= _LEAST_INSIDE
        ]
    present = fit(centres_vx(synapses, unit_nm, config))
    scored = [(fit(centre_vx), text) for _, text, centre_vx in tried]
    best, best_text = max(scored, key=lambda entry: entry[0], default=(0.0, ""))
    if best < max(_LEAST_FITTING, present + _CLEARLY_BETTER):
        return None
    return (
        f"Most likely {best_text}. So read, {100 * best:.0f} % of {len(synapses)} synapses tried have a cleft and "
        f"their neurites where they should be, against {100 * present:.0f} % now."
    )


def _other_origins(
    synapses: pd.DataFrame, config: PreprocessingConfig, is_inside: Score, corner_vx: NDArray[np.int64]
) -> list[tuple[float, str, NDArray[np.int64]]]:
    """Positions counted from the volume's own corner, and positions that the corner was added to once too often."""
    centre_vx = centres_vx(synapses, config.position_unit_nm, config)
    unit_nm = synapses.attrs.get(UNIT_NM, config.position_unit_nm)
    unit = np.round(corner_vx * np.asarray(config.voxel_size_nm) / np.asarray(unit_nm)).astype(int)
    corner = ", ".join(map(str, corner_vx.tolist()))
    shift = ", ".join(map(str, unit.tolist()))
    found = []
    for moved_vx, origin, advice in (
        (centre_vx + corner_vx, "are counted from the corner of the volume", "add ({}) to"),
        (centre_vx - corner_vx, "have the corner of the volume added once too often", "subtract ({}) from"),
    ):
        text = f"the positions {origin}, whose first voxel is ({corner}): {advice.format(shift)} x, y, z of the table"
        found.append((is_inside(moved_vx), text, moved_vx))
    return found


def _units(voxel_size_nm: tuple[float, float, float]) -> list[tuple[float, float, float]]:
    """Units in which positions come: voxels of finer and coarser scales, nm, micrometres."""
    x, y, z = voxel_size_nm
    in_plane = [(x * f, y * f, z) for f in (1, 1 / 2, 1 / 4, 1 / 8, 2, 4)]
    isotropic = [(x * f, y * f, z * f) for f in (1 / 2, 1 / 4, 2, 4)]
    return [*in_plane, (1.0, 1.0, 1.0), (1000.0, 1000.0, 1000.0), *isotropic]


@dataclass(frozen=True)
class LayerFacts:
    """One layer as it was found.

    Attributes:
        role: Such as "EM volume".
        uri: Its address.
        scale_nm: Voxel size (x, y, z) of the scale that is read.
        resampled_nm: Voxel size of the chunks, if that scale is resampled to it.
        lower_vx: First voxel of the scale (x, y, z).
        upper_vx: One past the last voxel.
        block_size_vx: Size of a storage block.
        dtype: Type of a voxel.
        codec: Encoding of the blocks.
    """

    role: str
    uri: str
    scale_nm: list[float]
    resampled_nm: list[float] | None
    lower_vx: list[int]
    upper_vx: list[int]
    block_size_vx: list[int]
    dtype: str
    codec: str


@dataclass(frozen=True)
class InputCheck:
    """Findings of the check.

    Attributes:
        layers: Those that can be opened.
        n_synapses: Rows of the synapse table.
        n_annotated: Annotated synapses of the synapse table.
        shares: By kind; those of root ids, clefts and sections are of a sample.
        findings: Errors and warnings.
        first_chunk: Synapse id and chunk, uint8 (2, x, y, z), of the first one of the sample that could be read.
        source: Where the synapse table comes from, if it tells.
        root_versions: Versions of the root ids of table and segmentation, by role, as far as they are known.
    """

    layers: tuple[LayerFacts, ...]
    n_synapses: int
    n_annotated: int
    shares: dict[str, Share]
    findings: tuple[Finding, ...]
    first_chunk: tuple[int, NDArray[np.uint8]] | None = None
    source: dict[str, Any] = field(default_factory=dict)
    root_versions: dict[str, str] = field(default_factory=dict)

    @property
    def errors(self) -> list[str]:
        """Faults that must be mended before anything is cut."""
        return [finding.text for finding in self.findings if finding.severity == "error"]

    @property
    def warnings(self) -> list[str]:
        """Findings that should be looked at."""
        return [finding.text for finding in self.findings if finding.severity == "warning"]

    def document(self) -> dict[str, Any]:
        """All but the chunk, for a JSON file."""
        known = {"synapse_source": self.source, "root_versions": self.root_versions}
        return {
            "layers": [vars(layer) for layer in self.layers],
            "n_synapses": self.n_synapses,
            "n_annotated": self.n_annotated,
            "shares": as_document(self.shares),
            "errors": self.errors,
            "warnings": self.warnings,
            **{name: value for name, value in known.items() if value},
        }

    def conclude(self) -> None:
        """Log the warnings, and stop at errors.

        Raises:
            InputError: With all errors.
        """
        for text in self.warnings:
            logger.warning(text)
        if self.errors:
            raise InputError(
                f"Nothing was cut, because the inputs cannot be right. {' '.join(self.errors)} `kedro synapseclr "
                "check` shows all that was found; the limits are preprocessing.max_suspect_fraction and "
                "preprocessing.max_rejected_fraction."
            )


def check_tables(synapses: pd.DataFrame, annotated_ids: pd.Series, config: PreprocessingConfig) -> InputCheck:
    """Look at the tables alone, for chunks that are imported.

    Args:
        synapses: As :func:`synapseclr.volumes.synapse_table.check_synapse_table` returns it.
        annotated_ids: Ids of the annotation table.
        config: The limits.
    """
    is_autapse = (synapses["pre_root_id"] == synapses["post_root_id"]) & (synapses["pre_root_id"] != 0)
    shares = {"autapses": Share(int(is_autapse.sum()), len(synapses))}
    findings = [
        Finding(
            "warning",
            f"{shares[kind]} synapses have the same pre_root_id and post_root_id. They are flagged is_autapse; if they "
            "are not autapses, one column of the synapse table was copied onto the other.",
            kind,
        )
        for kind in judge(shares, config)
    ]
    for side in ("pre", "post"):
        n_unnamed = int((synapses[f"{side}_root_id"] == 0).sum())
        if n_unnamed > config.max_suspect_fraction * len(synapses):
            text = f"{n_unnamed:,} of {len(synapses):,} synapses have the {side}_root_id 0, which is no neurite: "
            findings.append(Finding("warning", f"{text}their chunks have no mask of that side."))
    n_annotated = int(annotated_ids.isin(synapses["id"]).sum())
    if len(annotated_ids) and not n_annotated:
        text = f"None of the {len(annotated_ids):,} annotated synapses is in the synapse table, so no trait can be "
        text += f"scored: the annotation table has {annotated_ids.iloc[0]}, the synapse table {synapses['id'].iloc[0]}."
        findings.append(Finding("warning", f"{text} Take the ids of both tables from one source."))
    source, version = dict(synapses.attrs.get(PROVENANCE) or {}), RootVersion.of_table(synapses.attrs)
    versions = {"synapse table": str(version)} if version.is_known else {}
    return InputCheck((), len(synapses), n_annotated, shares, tuple(findings), source=source, root_versions=versions)


def check_inputs(
    layers: Sequence[VolumeLayer | None],
    synapses: pd.DataFrame,
    annotated_ids: pd.Series,
    config: PreprocessingConfig,
) -> InputCheck:
    """Look at tables and volumes: scales, codecs, bounds, a first block, and how a sample of synapses fits them.

    Args:
        layers: EM, segmentation and clefts, which are not looked at where they are painted.
        synapses: As :func:`synapseclr.volumes.synapse_table.check_synapse_table` returns it.
        annotated_ids: Ids of the annotation table.
        config: Resolution, size of a chunk, ``check_synapses`` and the limits.

    Returns:
        What was found; it raises nothing that a table or a volume can cause.
    """
    tables = check_tables(synapses, annotated_ids, config)
    opened: list[OpenLayer] = []
    findings = list(tables.findings)
    facts = []
    try:
        wanted = layers_to_read(layers, config)
    except ConfigurationError as error:
        return replace(tables, findings=(*findings, Finding("error", str(error))))
    for number, layer in enumerate(wanted):
        try:
            found = open_on_grid(layer, config.voxel_size_nm, config.max_resampling, holds_ids=number > 0)
            facts.append(_facts(found, config))
            check_layer(found, config, holds_ids=number > 0)
            opened.append(found)
        except SynapseCLRError as error:
            unread = str(error)
            if number == _CLEFT and not isinstance(error, UnreachableError):
                unread += " If there is no cleft volume, set preprocessing.cleft to painted."
            findings.append(Finding("error", unread))
    shares, first_chunk = dict(tables.shares), None
    versions = dict(tables.root_versions)
    for layer in wanted:
        if layer.root_version.is_known:
            versions[layer.role] = str(layer.root_version)
        other_version = disagreement(RootVersion.of_table(synapses.attrs), layer.root_version, layer.uri)
        if other_version is not None:
            findings.append(Finding("error", other_version))
    if len(opened) == len(wanted):
        surroundings = _Surroundings(open_cutter(opened, config), synapses, config)
        shares |= surroundings.placement()
        try:
            shares |= surroundings.sample()
        except (DecoderError, UnreachableError) as error:
            findings.append(Finding("error", str(error)))
        else:
            findings += surroundings.explain(judge(shares, config), shares)
            findings += surroundings.matching(shares)
        first_chunk = surroundings.first_chunk
    return InputCheck(
        tuple(facts),
        len(synapses),
        tables.n_annotated,
        shares,
        tuple(findings),
        first_chunk,
        source=tables.source,
        root_versions=versions,
    )


class _Surroundings:
    """Synapses of a table in their volumes.

    Attributes:
        first_chunk: Of the first synapse that was examined, with its id; one with a cleft if there is one.
    """

    def __init__(self, cutter: SynapseCutter, synapses: pd.DataFrame, config: PreprocessingConfig) -> None:
        self.first_chunk: tuple[int, NDArray[np.uint8]] | None = None
        self._cutter, self._synapses, self._config = cutter, synapses, config
        # a row of the table would hold its ids as floats, beside the positions
        self._root_ids = [synapses[f"{side}_root_id"].to_numpy(np.int64) for side in ("pre", "post")]
        self._centre_vx = centres_vx(synapses, config.position_unit_nm, config)
        self._points_vx = points_vx(synapses, config) if config.cleft == "painted" else None
        self._is_inside = cutter.is_inside(self._centre_vx)
        self._rng = np.random.default_rng(_SEED)
        self._ids_near: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._sampled_roots: NDArray[np.int64] = np.empty(0, np.int64)
        self._unreadable = ""

    def placement(self) -> dict[str, Share]:
        """Shares of the whole table that follow from positions and bounds alone."""
        bounds, size_vx = self._cutter.em.layer, np.asarray(self._config.chunk_size_vx)
        lower_vx = self._centre_vx[self._is_inside] - size_vx // 2
        hangs_over = ((lower_vx < bounds.lower_vx) | (lower_vx + size_vx > bounds.upper_vx)).any(axis=1)
        extent_vx = bounds.upper_vx - bounds.lower_vx
        within = float(np.prod(np.clip(extent_vx - size_vx + 1, 0, None) / extent_vx))
        return {
            "outside": Share(int((~self._is_inside).sum()), len(self._is_inside)),
            "at_border": Share(int(hangs_over.sum()), len(hangs_over), expected=1 - within),
        }

    def sample(self) -> dict[str, Share]:
        """Examine a sample of the synapses inside, and count.

        Raises:
            DecoderError: If blocks cannot be decoded here.
            UnreachableError: If a store does not answer.
        """
        rows = np.flatnonzero(self._is_inside)
        rows = np.sort(self._rng.choice(rows, min(self._config.check_synapses, len(rows)), replace=False))
        seen: list[tuple[int, Examination]] = []
        for at, row in enumerate(rows.tolist()):
            for ahead in rows[at : at + _READ_AHEAD]:
                self._cutter.request(self._centre_vx[ahead])
            try:
                seen.append((row, self._examine(row, self._centre_vx[row])))
            except (DecoderError, UnreachableError):
                raise
            except VolumeError as error:
                self._unreadable = self._unreadable or str(error)
        if not len(rows):
            return {}
        table = self._synapses.iloc[[row for row, _ in seen]].reset_index(drop=True)
        is_near = [found.cleft_distance_nm <= self._config.max_cleft_distance_nm for _, found in seen]
        if seen:
            first, found = seen[is_near.index(True) if any(is_near) else 0]
            self.first_chunk = int(self._synapses["id"].iloc[first]), found.chunk_cxyz
        blocks = [ids.astype(np.uint64) for _, found in seen for ids in found.ids_near]
        ids = np.unique(np.concatenate(blocks)) if blocks else self._ids_near
        self._ids_near = ids[ids != 0]
        roots = table[["pre_root_id", "post_root_id"]].to_numpy(np.int64).ravel()
        self._sampled_roots = roots[roots != 0]
        without_cleft = "no_contact" if self._config.cleft == "painted" else "cleft_far"
        n_own = sum(found.has_own_cleft for _, found in seen)
        sections = [(found.n_constant_sections, found.n_sections) for _, found in seen]
        return {
            "unreadable": Share(len(rows) - len(seen), len(rows), is_sample=True),
            without_cleft: Share(len(seen) - sum(is_near), len(seen), is_sample=True),
            **({} if self._config.cleft == "painted" else {"own_cleft": Share(n_own, len(seen), is_sample=True)}),
            **neurite_shares(
                pd.Series([found.has_pre for _, found in seen], dtype=bool),
                pd.Series([found.has_post for _, found in seen], dtype=bool),
                table["pre_root_id"],
                table["post_root_id"],
            ),
            "constant_sections": Share(sum(n for n, _ in sections), sum(of for _, of in sections)),
        }

    def explain(self, severities: dict[str, Any], shares: dict[str, Share]) -> list[Finding]:
        """Put what is too large into sentences, with the likeliest cause; one for all that wrong positions cause."""
        findings = []
        misplaced = [kind for kind in _POSITION_KINDS if severities.get(kind) == "error"]
        positions = self._positions() if misplaced else None
        causes: set[str] = set()
        told_already = {"autapses"}
        if positions:
            told_already |= {*_POSITION_KINDS, "without_pre", "without_post"} - {misplaced[0]}
        for kind, severity in severities.items():
            if kind in told_already:
                continue
            told = f"{shares[kind]} {self._place(kind)}."
            if severity == "error":
                cause = positions if positions and kind in misplaced else self._cause(kind, severities)
                told += "" if cause in causes else f" {cause}"
                causes.add(cause)
            findings.append(Finding(severity, told, kind))
        return findings

    def matching(self, shares: dict[str, Share]) -> list[Finding]:
        """Say so where clefts have the ids of their synapses and are matched by distance."""
        own = shares.get("own_cleft")
        if own is None or self._config.cleft_match != "proximity" or own.n < max(_MOST_OF_THEM * own.of, 1):
            return []
        return [
            Finding(
                "warning",
                f"{own} synapses tried have a label of their own id near them in the cleft volume: the ids of clefts "
                "are those of synapses. Set preprocessing.cleft_match to id, which takes these and not the nearest.",
                "own_cleft",
            )
        ]

    def _place(self, kind: str) -> str:
        caches = (self._cutter.em, self._cutter.segmentation, self._cutter.cleft)
        em, segmentation, cleft = (
            f"{cache.layer.layer.role} at {cache.layer.layer.uri}" if cache else "" for cache in caches
        )
        of_own_id = " of their own id" if self._config.cleft_match == "id" else ""
        bounds = self._cutter.em.layer
        sampled = "synapses tried"
        return {
            "outside": f"synapses of the synapse table lie outside of the {em}, which spans voxels "
            f"{bounds.lower_vx.tolist()} to {bounds.upper_vx.tolist()}",
            "at_border": f"chunks hang over the border of the {em}, more than its size explains",
            "cleft_far": f"{sampled} have no label{of_own_id} of the {cleft} within "
            f"{self._config.max_cleft_distance_nm:g} nm",
            "no_contact": f"{sampled}: their segments do not touch in the {segmentation} within "
            f"{self._config.max_cleft_distance_nm:g} nm, where a cleft would be painted",
            "without_pre": f"{sampled}: the pre_root_id of the synapse table does not occur near them in the "
            f"{segmentation}",
            "without_post": f"{sampled}: the post_root_id of the synapse table does not occur near them in the "
            f"{segmentation}",
            "without_either": f"{sampled}: neither root id of the synapse table occurs near them in the {segmentation}",
            "unreadable": f"{sampled} lie in blocks that cannot be read. {self._unreadable.removesuffix('.')}",
            "constant_sections": f"sections around the synapses tried are black or of one intensity in the {em}",
        }[kind]

    def _cause(self, kind: str, severities: dict[str, Any]) -> str:
        """The likeliest cause of a share that is too large, positions being right or beyond repair."""
        if kind in ("without_pre", "without_post", "without_either"):
            if severities.get("cleft_far") == "error":
                return "With the clefts missing as well: check position unit, axis order, voxel size and addresses."
            if kind == "without_either":
                return diagnose_ids(self._sampled_roots, self._ids_near)
            return "The other side is there, so most likely this column is of another version, or holds something else."
        if kind == "constant_sections":
            return (
                "Most likely nothing was found where the reader looks: the path is beside the real one, the chunk keys "
                "have another separator than the volume's description says, or this scale was never written."
            )
        if kind == "unreadable":
            return "Check that the volume is complete and that its address is the right one."
        if kind == "cleft_far" and self._config.cleft_match == "id":
            return (
                "Most likely the ids of the cleft volume are not those of the synapses: set preprocessing.cleft_match "
                "to proximity."
            )
        if kind == "no_contact" and "without_either" not in severities:
            return (
                "Most likely gaps between the segments are wider than preprocessing.cleft_thickness_nm, or the points "
                "lie far from the contact."
            )
        if kind == "cleft_far" and "without_either" not in severities:
            return (
                "The neurites are where the table says, so most likely the cleft volume has another voxel size, offset "
                "or axis order, or preprocessing.max_cleft_distance_nm is too small."
            )
        setting = _UNIT_OF_ENTRY if UNIT_NM in self._synapses.attrs else _UNIT_OF_PARAMETER
        return (
            f"Check {setting}, the order of the axes, the volumes' scale and offset, and that table and volumes are of "
            "one data set."
        )

    def _positions(self) -> str | None:
        n = len(self._synapses)
        chosen = np.sort(self._rng.choice(n, min(_MOST_TRIED, n), replace=False))
        rows = self._synapses.iloc[chosen]

        def is_inside(centre_vx: NDArray[np.int64]) -> float:
            return float(self._cutter.is_inside(centre_vx).mean())

        def fit(centre_vx: NDArray[np.int64]) -> float:
            return float(np.mean([self._fits(int(row), centre) for row, centre in zip(chosen, centre_vx, strict=True)]))

        return diagnose_positions(rows, self._config, is_inside, fit, self._cutter.em.layer.lower_vx, self._scales_nm())

    def _scales_nm(self) -> list[tuple[float, float, float]]:
        caches = (self._cutter.em, self._cutter.segmentation, self._cutter.cleft)
        layers = [cache.layer for cache in caches if cache is not None]
        return [layer.source_size_nm for layer in layers if isinstance(layer, ResampledLayer)]

    def _fits(self, row: int, centre_vx: NDArray[np.int64]) -> bool:
        if not self._cutter.is_inside(centre_vx):
            return False
        try:
            found = self._examine(row, centre_vx, with_em=False)
        except VolumeError:
            return False
        pre, post = (root_id_n[row] for root_id_n in self._root_ids)
        has_neurites = (found.has_pre or pre == 0) and (found.has_post or post == 0) and bool(pre or post)
        return has_neurites and found.cleft_distance_nm <= self._config.max_cleft_distance_nm / 2

    def _examine(self, row: int, centre_vx: NDArray[np.int64], with_em: bool = True) -> Examination:
        pre, post = (int(root_id_n[row]) for root_id_n in self._root_ids)
        is_moved = (centre_vx != self._centre_vx[row]).any()  # the points of another reading are not known
        points = None if self._points_vx is None or is_moved else self._points_vx[row]
        return self._cutter.examine(Site(centre_vx, pre, post, int(self._synapses["id"].iloc[row]), points), with_em)


def _facts(layer: OpenLayer, config: PreprocessingConfig) -> LayerFacts:
    is_resampled = isinstance(layer, ResampledLayer)
    stored = layer.stored
    return LayerFacts(
        role=layer.layer.role,
        uri=layer.layer.uri,
        scale_nm=list(_scale_nm(layer, config)),
        resampled_nm=list(config.voxel_size_nm) if is_resampled else None,
        lower_vx=stored.lower_vx.tolist(),
        upper_vx=stored.upper_vx.tolist(),
        block_size_vx=stored.block_size_vx.tolist(),
        dtype=str(layer.dtype),
        codec=layer.codec,
    )


def _scale_nm(layer: OpenLayer, config: PreprocessingConfig) -> tuple[float, float, float]:
    return layer.source_size_nm if isinstance(layer, ResampledLayer) else config.voxel_size_nm


def describe(check: InputCheck) -> str:
    """Lay out what was found for a terminal: tables, layers, shares."""
    lines = [f"synapse table: {check.n_synapses:,} synapses, {check.n_annotated:,} of them annotated"]
    for layer in check.layers:
        size, lower, upper, block = (
            " x ".join(f"{v:g}" for v in values)
            for values in (layer.scale_nm, layer.lower_vx, layer.upper_vx, layer.block_size_vx)
        )
        if layer.resampled_nm:
            size += f" nm, resampled to {' x '.join(f'{v:g}' for v in layer.resampled_nm)}"
        lines.append(f"{layer.role}: {layer.uri}")
        lines.append(f"    scale {size} nm; voxels {lower} to {upper}; {layer.dtype}; {layer.codec}, blocks of {block}")
    lines += [f"root ids of the {role}: {version}" for role, version in check.root_versions.items()]
    width = max(map(len, LABELS.values()))
    lines += [f"{LABELS[kind]:<{width}}  {share}" for kind, share in check.shares.items()]
    return "\n".join(lines)
