"""A run's outputs as the explorer shows them: synapses, planes, and the columns to colour and filter by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synapseclr.analysis.column_labels import column_label, measured_values, scale_unit, unit_text
from synapseclr.analysis.disk_index import DiskIndex, is_index_of
from synapseclr.analysis.feature_rows import is_lazy
from synapseclr.analysis.morphometry import MORPHOMETRY_LABELS
from synapseclr.analysis.neuroglancer import NeuroglancerConfig, synapse_links
from synapseclr.analysis.representations import check_finite
from synapseclr.analysis.search import FeatureIndex
from synapseclr.analysis.traits import TRAITS, Trait, class_traits, trait_values
from synapseclr.errors import TableError
from synapseclr.explorer.label_tables import LabelTables, TableFile
from synapseclr.explorer.map_planes import MapPlane, projections, volume_planes
from synapseclr.volumes.synapse_table import SynapseRows, table_rows
from synapseclr.volumes.traits import SIDE_NAMES

if TYPE_CHECKING:
    from anndata import AnnData

    from synapseclr.explorer.map_tiles import QuadTree
    from synapseclr.volumes.store.chunk_store import ChunkStore


STANDARDISED = "Standardised"
"""Heading of the transformed values of traits that are also there in their measured unit."""

NO_INDEX = "These synapses have no index yet: `kedro run --pipeline=similarity --to-nodes=index_features`."
TILES_ABOVE = 300_000
"""Synapses up to which the page itself holds, filters and draws all of them."""

MAX_CLASSES = 40  # text with more values is no class
N_COMPONENTS = 64
ROOT_COLUMNS = ("pre_root_id", "post_root_id")
_NOT_COLOURED = ("synapse_id", "chunk_index", *ROOT_COLUMNS, "cleft_id")


@dataclass(frozen=True)
class Column:
    """One value per synapse.

    Attributes:
        name: Unique name.
        label: Name on the page.
        group: Heading on the page.
        values_n: float32 (n,), NaN where missing; for classes the index into ``class_names``.
        class_names: Empty for continuous values.
        unit: Unit of continuous values, for people; empty where they have none.
    """

    name: str
    label: str
    group: str
    values_n: np.ndarray
    class_names: tuple[str, ...] = ()
    unit: str = ""


def observed_columns(
    obs: pd.DataFrame, traits: Sequence[Trait] = TRAITS, scales: pd.DataFrame | None = None
) -> Iterator[Column]:
    """Annotated traits, clusters and other columns of ``obs`` that have any value.

    Args:
        obs: One row per synapse.
        traits: Traits of the annotations.
        scales: ``annotation_scales``; with it, numbers are listed in their measured unit, and their z-scores apart.
    """
    for trait in traits:
        values_n = trait_values(obs, trait)
        if not np.isfinite(values_n).any():
            continue
        measured_n = measured_values(values_n, trait, scales)
        group = "Annotated" if measured_n is None else STANDARDISED
        unit = "" if trait.is_class else scale_unit(trait)
        yield Column(trait.name, trait.label, group, values_n.astype(np.float32), trait.class_names, unit)
        if measured_n is not None and (trait.column not in obs or trait.column == trait.name):
            unit = unit_text(trait.unit)
            yield Column(trait.measured_name, trait.label, "Annotated", measured_n.astype(np.float32), (), unit)
    names = {trait.name for trait in traits}
    for name in map(str, obs.columns):
        if name not in names and name not in _NOT_COLOURED:
            column = _from_series(obs[name], name, traits=traits)
            if column is not None and name in MORPHOMETRY_LABELS:
                column = replace(column, group="Sizes")
            if column is not None:
                yield column


def _from_series(
    series: pd.Series, name: str, group: str | None = None, traits: Sequence[Trait] = TRAITS
) -> Column | None:
    label, unit = column_label(name, traits)
    if pd.api.types.is_bool_dtype(series):
        return Column(name, label, group or "Metadata", series.to_numpy(np.float32), ("no", "yes"))
    is_text = not pd.api.types.is_numeric_dtype(series)
    if is_text or "cluster" in name:
        found = series.astype("category")
        if not 1 <= len(found.cat.categories) <= MAX_CLASSES:
            return None
        codes_n = found.cat.codes.to_numpy(np.float32)
        names = tuple(str(value) for value in found.cat.categories)
        group = group or ("Clusters" if "cluster" in name else "Metadata")
        return Column(name, label, group, np.where(codes_n < 0, np.nan, codes_n).astype(np.float32), names)
    values_n = series.to_numpy(np.float32, na_value=np.nan)
    values_n = np.where(np.isfinite(values_n), values_n, np.nan)
    return Column(name, label, group or "Metadata", values_n, (), unit) if np.isfinite(values_n).any() else None


def imputed_columns(
    imputed: pd.DataFrame, synapse_id: np.ndarray, traits: Sequence[Trait] = TRAITS
) -> Iterator[Column]:
    """Imputed traits, their uncertainty, and how far a synapse is outside the distribution of the annotated ones.

    Args:
        imputed: The table ``imputed_traits``.
        synapse_id: int64 (n,).
        traits: Traits of the table.
    """
    rows = _rows_of(imputed, synapse_id)
    of_kind: dict[str, list[Column]] = {"Imputed": [], "Uncertainty": [], "Out of distribution": [], STANDARDISED: []}

    def add(group: str, name: str, label: str, unit: str = "") -> None:
        if name in rows:
            of_kind[group].append(Column(name, label, group, rows[name].to_numpy(np.float32), (), unit))

    for trait in traits:
        if f"{trait.name}_class" in rows:
            codes_n = rows[f"{trait.name}_class"].map({name: code for code, name in enumerate(trait.classes)})
            column = (f"{trait.name}_class", f"{trait.label}, imputed", "Imputed", codes_n.to_numpy(np.float32))
            of_kind["Imputed"].append(Column(*column, trait.classes))
        for one in class_traits(trait):
            if one.is_class:
                add("Imputed", f"{one.name}_probability", f"P({trait.label} is {one.classes[1]})")
                add("Uncertainty", f"{one.name}_probability_sd", f"{one.label}, uncertainty of P")
                continue
            is_measured = f"{one.measured_name}_mean" in rows and one.measured_name != one.name
            if is_measured:
                add("Imputed", f"{one.measured_name}_mean", f"{one.label}, imputed", unit_text(one.unit))
                add("Uncertainty", f"{one.measured_name}_sd", f"{one.label}, uncertainty", unit_text(one.unit))
            apart = (STANDARDISED, STANDARDISED) if is_measured else ("Imputed", "Uncertainty")
            add(apart[0], f"{one.name}_mean", f"{one.label}, imputed", scale_unit(one))
            add(apart[1], f"{one.name}_sd", f"{one.label}, uncertainty", scale_unit(one))
        add("Out of distribution", f"{trait.name}_out_of_distribution", f"{trait.label}, out of distribution")
    for columns in of_kind.values():
        yield from columns


def score_columns(scores: pd.DataFrame, synapse_id: np.ndarray) -> Iterator[Column]:
    """Outlier score and its two parts.

    Args:
        scores: The table ``outlier_scores``.
        synapse_id: int64 (n,).
    """
    rows = _rows_of(scores, synapse_id)
    for name, label in (
        ("score", "outlier score"),
        ("unsupervised", "unusualness"),
        ("likeness", "likeness to examples"),
    ):
        if name in rows and rows[name].notna().any():
            yield Column(f"outlier_{name}", label, "Outliers", rows[name].to_numpy(np.float32))


def consensus_columns(neurites: pd.DataFrame, obs: pd.DataFrame, class_name: str = "inhibitory") -> Iterator[Column]:
    """Probability of each synapse's neurites to be of the second class, from all of their synapses.

    Args:
        neurites: The table ``neurite_cell_types``: ``root_id``, ``probability``.
        obs: ``pre_root_id``, ``post_root_id``.
        class_name: Name of that class.
    """
    of_neurite = neurites.drop_duplicates("root_id").set_index("root_id")["probability"]
    for side, adjective in SIDE_NAMES.items():
        if f"{side}_root_id" in obs:
            values_n = of_neurite.reindex(obs[f"{side}_root_id"].to_numpy()).to_numpy(np.float32)
            if np.isfinite(values_n).any():
                label = f"P({adjective} neurite is {class_name})"
                yield Column(f"consensus_{side}_probability", label, "Consensus", values_n)


def class_columns_of_neurites(classes: pd.DataFrame, obs: pd.DataFrame) -> Iterator[Column]:
    """Most probable class of each synapse's neurites, by property; missing where no class is probable enough.

    Args:
        classes: The table ``neurite_classes``.
        obs: ``pre_root_id``, ``post_root_id``.
    """
    called = classes[classes["is_called"].astype(bool)]
    for name, of_property in classes.groupby("property", sort=False):
        names = tuple(dict.fromkeys(of_property["class_name"]))
        chosen = called[called["property"] == name].set_index("root_id")["class_name"]
        codes = chosen.map({of_class: float(code) for code, of_class in enumerate(names)})
        for side, adjective in SIDE_NAMES.items():
            if f"{side}_root_id" in obs:
                values_n = codes.reindex(obs[f"{side}_root_id"].to_numpy()).to_numpy(np.float32)
                if np.isfinite(values_n).any():
                    label = f"{column_label(str(name))} of the {adjective} neurite"
                    yield Column(f"consensus_{side}_{name}", label, "Consensus", values_n, names)


def table_columns(table: pd.DataFrame, synapse_id: np.ndarray, group: str) -> Iterator[Column]:
    """Columns of any further table by synapse.

    Args:
        table: With ``synapse_id``.
        synapse_id: int64 (n,).
        group: Heading.
    """
    rows = _rows_of(table, synapse_id)
    for name in map(str, rows.columns):
        column = _from_series(rows[name], name, group)
        if column is not None and name not in _NOT_COLOURED:
            yield column


def _unsigned(root_id_n: np.ndarray) -> np.ndarray:
    """Root ids as uint64; those that are stored as int64 are not copied."""
    return root_id_n.view(np.uint64) if root_id_n.dtype == np.int64 else root_id_n.astype(np.uint64)


def _rows_of(table: pd.DataFrame, synapse_id: np.ndarray) -> pd.DataFrame:
    """A table in the order of the synapses, which a mapped one has already: it is not copied."""
    ids = table["synapse_id"].to_numpy()
    return table if np.array_equal(ids, synapse_id) else table_rows(table, synapse_id)


@dataclass(frozen=True)
class MappedSynapses:
    """Stand-in for the AnnData that the explorer reads: tables mapped from files, features lazy.

    Attributes:
        obs: One row per synapse, its columns mapped.
        X: dask array (n, f).
        obsm: dask arrays by name.
        uns: What else is known.
    """

    obs: pd.DataFrame = field(default_factory=pd.DataFrame)
    X: Any = None
    obsm: Mapping[str, Any] = field(default_factory=dict)
    uns: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_obs(self) -> int:
        """Number of synapses."""
        return len(self.obs)


@dataclass(frozen=True)
class MappedFiles:
    """Columns and maps in files.

    Attributes:
        folder: Folder of the files.
        columns: Columns of the page.
        planes: Maps.
        trees: Quadtrees of the maps in a plane, by their names.
    """

    folder: Path
    columns: tuple[Column, ...]
    planes: tuple[MapPlane, ...]
    trees: Mapping[str, QuadTree]


@dataclass(frozen=True)
class RunOutputs:
    """A run's outputs, in memory but for the chunks; of large runs mapped from files, and their features lazy.

    Attributes:
        synapses: AnnData of the manifold, or of the embeddings where there is no manifold: features, ``obs`` with
            ``synapse_id``, ``obsm`` with the planes.
        chunks: Source of the images; None: no images.
        tables: Further tables by catalog name, those that exist of: ``imputed_traits``, ``outlier_scores``,
            ``neurite_cell_types``, ``neurite_classes``, ``synapse_orientations``, ``occlusion_effects``,
            ``annotation_scales``.
        neuroglancer: Settings of the links.
        labels: Folder of the labels; None: nothing can be labelled.
        accepted_defects: Table of the defects that the pipelines leave out; None: it cannot be written from here.
        notes: Sentences on what is missing and which command makes it.
        title: Title of the page, such as the folder of the run.
        traits: What annotations are.
        index_folder: Local folder of an index in files, by which lazy features are searched.
        mapped: Columns and maps that were made before, in files (:mod:`synapseclr.explorer.mapped_run`).
    """

    synapses: AnnData | MappedSynapses
    chunks: ChunkStore | None = None
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    neuroglancer: NeuroglancerConfig = field(default_factory=NeuroglancerConfig)
    labels: LabelTables | None = None
    accepted_defects: TableFile | None = None
    notes: tuple[str, ...] = ()
    title: str = "synapses"
    traits: Sequence[Trait] = TRAITS
    index_folder: str | None = None
    mapped: MappedFiles | None = None

    def __len__(self) -> int:
        return int(self.synapses.n_obs)

    @cached_property
    def synapse_id(self) -> np.ndarray:
        """Ids of the synapses, int64 (n,)."""
        if "synapse_id" not in self.synapses.obs:
            raise TableError(
                "The embeddings have no column synapse_id in obs. Run `kedro run --pipeline=embedding` again."
            )
        return np.asarray(self.synapses.obs["synapse_id"].to_numpy(), dtype=np.int64)

    @cached_property
    def row_of_id(self) -> SynapseRows:
        """Row of each synapse."""
        return SynapseRows(self.synapse_id)

    @cached_property
    def maps(self) -> dict[str, MapPlane]:
        """Maps of the synapses by name: projections of their features first, then positions in the volume."""
        if self.mapped is not None:
            return {plane.name: plane for plane in self.mapped.planes}
        projected = projections(self.synapses) or [MapPlane("PCA", self._principal_plane(), ("PCA 1", "PCA 2"))]
        return {plane.name: plane for plane in (*projected, *volume_planes(self.synapses))}

    @cached_property
    def planes(self) -> dict[str, np.ndarray]:
        """Coordinates by name of the map, float32 (n, 2) or (n, 3)."""
        return {name: plane.coordinates_nd for name, plane in self.maps.items()}

    def _principal_plane(self) -> np.ndarray:
        from sklearn.decomposition import PCA

        if min(self.features_nf.shape) < 2:
            return np.zeros((len(self), 2), np.float32)
        return np.asarray(PCA(2, random_state=0).fit_transform(self.features_nf), np.float32)

    @cached_property
    def features_nf(self) -> np.ndarray:
        """Features in which neighbours are searched, float32 (n, f).

        Raises:
            TableError: If the run is too large to hold them.
        """
        self._check_in_memory()
        features_nf = np.ascontiguousarray(self.synapses.X, dtype=np.float32)
        check_finite(features_nf, "the explorer's synapses")
        return features_nf

    def _check_in_memory(self) -> None:
        if self.mapped is not None:
            raise TableError(
                f"This needs the features of all {len(self):,} synapses in memory, which the explorer does not hold "
                f"above {TILES_ABOVE:,}."
            )

    @cached_property
    def components_nf(self) -> np.ndarray:
        """The first 64 principal components where the run has any, else the features: float32 (n, c).

        Raises:
            TableError: If the run is too large to hold them.
        """
        self._check_in_memory()
        stored = self.synapses.obsm.get("X_pca")
        return self.features_nf if stored is None else np.asarray(stored[:, :N_COMPONENTS], dtype=np.float32)

    @cached_property
    def roots(self) -> dict[str, np.ndarray]:
        """Root ids of both sides by name of the column, uint64 (n,); 0: not known."""
        obs = self.synapses.obs
        return {name: _unsigned(obs[name].to_numpy()) for name in ROOT_COLUMNS if name in obs}

    @cached_property
    def index(self) -> FeatureIndex | None:
        """Index of the features for the search of neighbours; of lazy ones the run's index in files, None without."""
        if not is_lazy(self.synapses.X):
            return FeatureIndex(self.features_nf)
        if self.index_folder is None or not is_index_of(self.synapses.X, self.index_folder):
            return None
        return DiskIndex(self.synapses.X, self.index_folder)

    @property
    def searchable(self) -> FeatureIndex:
        """The index; raises TableError where there is none."""
        if self.index is None:
            raise TableError(f"{NO_INDEX} Until then nothing can be searched for.")
        return self.index

    @cached_property
    def imputed(self) -> pd.DataFrame | None:
        """The imputed traits in the order of the synapses."""
        table = self.tables.get("imputed_traits")
        return None if table is None else _rows_of(table, self.synapse_id)

    @cached_property
    def columns(self) -> dict[str, Column]:
        """All columns for colours and filters, by name."""
        found = list(self.made_columns() if self.mapped is None else self.mapped.columns)
        found.sort(key=lambda column: column.group == STANDARDISED)
        return {column.name: column for column in found}

    def made_columns(self) -> Iterator[Column]:
        """Make the columns, one after the other."""
        yield from observed_columns(self.synapses.obs, self.traits, self.tables.get("annotation_scales"))
        if "imputed_traits" in self.tables:
            yield from imputed_columns(self.tables["imputed_traits"], self.synapse_id, self.traits)
        if "outlier_scores" in self.tables:
            yield from score_columns(self.tables["outlier_scores"], self.synapse_id)
        if "neurite_cell_types" in self.tables:
            yield from consensus_columns(self.tables["neurite_cell_types"], self.synapses.obs, self._typed_class)
        if "neurite_classes" in self.tables:
            yield from class_columns_of_neurites(self.tables["neurite_classes"], self.synapses.obs)
        if "synapse_orientations" in self.tables:
            yield from table_columns(self.tables["synapse_orientations"], self.synapse_id, "Orientation of the cleft")

    @property
    def _typed_class(self) -> str:
        """Second class of the property that ``neurite_cell_types`` tells."""
        typed = next((trait for trait in self.traits if trait.level == "neurite" and trait.kind == "binary"), None)
        return typed.classes[1] if typed is not None else "of the second class"

    @cached_property
    def chunk_row_of_id(self) -> SynapseRows:
        """Position in the chunk store of each synapse that has a chunk."""
        return SynapseRows(np.empty(0, np.int64) if self.chunks is None else self.chunks.synapse_id)

    def neuroglancer_link(self, row: int) -> str | None:
        """Address of the synapse in Neuroglancer; None if a browser cannot read the volumes."""
        return synapse_links(self.synapses.obs.iloc[[row]], self.neuroglancer)[0]
