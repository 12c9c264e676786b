"""Answers to the page: the run as a whole, one synapse, a set of synapses, and the synapses that are like a set."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from synapseclr.analysis.occlusion import REGIONS
from synapseclr.analysis.outliers import OutliersConfig, detect, unsupervised_score, whiten
from synapseclr.analysis.search import Query
from synapseclr.analysis.traits import Trait, class_columns
from synapseclr.errors import TableError
from synapseclr.explorer.images import SynapseImages
from synapseclr.explorer.map_planes import map_overview
from synapseclr.explorer.run_outputs import RunOutputs

N_NEIGHBOURS = 12
SearchKind = Literal["similar", "defective"]
MAX_EXAMPLES = 500
MAX_FOUND = 200
# Above this many synapses, defects are searched for in the first principal components.
_WHOLE_BELOW = 20_000
_COMPONENTS = 64
_UNITS = {"um": "µm", "um2": "µm²", "um3": "µm³"}
_MOST_PROBABLE = 3  # classes named of an imputed trait with many


def overview(outputs: RunOutputs, can_save: bool) -> dict[str, Any]:
    """Title, columns, planes and notes: everything that the page loads first."""
    chunks = outputs.chunks
    return {
        "map": map_overview(outputs.maps, outputs.columns),
        "title": outputs.title,
        "n": len(outputs),
        "planes": list(outputs.planes),
        "columns": [
            {"name": column.name, "label": column.label, "group": column.group, "classes": column.class_names}
            for column in outputs.columns.values()
        ],
        "notes": outputs.notes,
        "can_save": can_save,
        "chunk_size_vx": chunks.chunk_size_vx if chunks else None,
        "voxel_size_nm": chunks.voxel_size_nm if chunks else None,
    }


def synapse_details(outputs: RunOutputs, images: SynapseImages | None, synapse_id: int) -> dict[str, Any] | None:
    """Metadata, traits, neighbours, links and effects of occlusion of a synapse.

    Args:
        outputs: The run.
        images: Pictures, or None.
        synapse_id: Its id.

    Returns:
        Plain values; ids as text, which JavaScript numbers would round. None for an unknown synapse.
    """
    row = outputs.row_of_id.get(synapse_id)
    if row is None:
        return None
    position = outputs.chunk_row_of_id.get(synapse_id)
    return {
        "id": str(synapse_id),
        "row": row,
        "has_images": images is not None and position is not None,
        "best_section": images.best_section(position) if images and position is not None else None,
        "neuroglancer": outputs.neuroglancer_link(row),
        "metadata": [[str(name), _as_text(outputs.synapses.obs[name].iloc[row])] for name in outputs.synapses.obs],
        "traits": _traits(outputs, row),
        "occlusion": _occlusion(outputs, synapse_id),
        "neighbours": neighbours(outputs, row),
    }


def _occlusion(outputs: RunOutputs, synapse_id: int) -> list[dict[str, str]]:
    """Changes of traits' scores when a region is made grey; empty for a synapse that was not explained."""
    table = outputs.tables.get("occlusion_effects")
    if table is None:
        return []
    return [
        {"label": row["label"], "score": f"{row['score']:+.2f}"}
        | {region: f"{row[f'{region}_change']:+.2f}" for region in REGIONS}
        for row in table[table["synapse_id"] == synapse_id].to_dict("records")
    ]


def neighbours(outputs: RunOutputs, row: int, k: int = N_NEIGHBOURS) -> list[dict[str, Any]]:
    """The nearest synapses in feature space, nearest first: ``id``, ``row``, ``distance``; none without an index."""
    k = min(k, len(outputs) - 1)
    if k < 1 or outputs.index is None:
        return []
    rows_e = np.array([row])
    (found,) = outputs.index.answers([Query("", rows_e, outputs.index.vectors(rows_e))], k)
    return [
        {"id": str(outputs.synapse_id[other]), "row": int(other), "distance": round(float(distance), 4)}
        for other, distance in zip(found.indices_qk[0], found.distances_qk[0], strict=True)
    ]


def _traits(outputs: RunOutputs, row: int) -> list[dict[str, Any]]:
    """Annotated and imputed values of the traits that have either."""
    of_synapse = None if outputs.imputed is None else outputs.imputed.iloc[row]
    obs = outputs.synapses.obs.iloc[row]
    rows = [_trait(trait, obs, of_synapse) for trait in outputs.traits]
    return [found for found in rows if found["annotated"] is not None or found["imputed"] is not None]


def _trait(trait: Trait, obs: pd.Series, imputed: pd.Series | None) -> dict[str, Any]:
    annotated = obs.get(trait.name)
    text: str | None = None
    if annotated is not None and not pd.isna(annotated):
        value = float(annotated)
        if trait.class_names:
            text = trait.class_names[int(value)]
        else:
            absent = "no mitochondrion" if "mito" in trait.name else "nothing to measure"
            text = f"{value:.2f} ({trait.scale_label.split(' of ')[0]})" if math.isfinite(value) else absent
    return {"label": trait.label, "annotated": text, **_imputed(trait, imputed)}


def _imputed(trait: Trait, imputed: pd.Series | None) -> dict[str, Any]:
    nothing: dict[str, Any] = {"imputed": None, "interval": None}
    if imputed is None:
        return nothing
    if trait.kind == "multiclass":
        return _imputed_classes(trait, imputed) or nothing
    if trait.class_names:
        probability = imputed.get(f"{trait.name}_probability", np.nan)
        if pd.isna(probability):
            return nothing
        spread = imputed.get(f"{trait.name}_probability_sd", np.nan)
        return {"imputed": f"{probability:.0%} {trait.class_names[1]}", "interval": f"± {spread:.0%}"}
    mean = imputed.get(f"{trait.measured_name}_mean", np.nan)
    if pd.isna(mean):
        return nothing
    low, high = (imputed.get(f"{trait.measured_name}_{end}_90", np.nan) for end in ("lower", "upper"))
    unit = _UNITS.get(trait.unit or "", trait.unit or "")
    digits = 0 if abs(mean) >= 10 else 3
    interval = "" if pd.isna(low) else f"90 %: {low:,.{digits}f} to {high:,.{digits}f}"
    return {"imputed": f"{mean:,.{digits}f} {unit}".strip(), "interval": interval}


def _imputed_classes(trait: Trait, imputed: pd.Series) -> dict[str, Any] | None:
    """The most probable classes; None if the trait was not imputed."""
    columns = zip(class_columns(trait), trait.classes, strict=True)
    found = [(float(imputed.get(f"{name}_probability", np.nan)), of_class) for name, of_class in columns]
    known = sorted((each for each in found if math.isfinite(each[0])), reverse=True)[:_MOST_PROBABLE]
    if not known:
        return None
    texts = [f"{probability:.0%} {of_class}" for probability, of_class in known]
    return {"imputed": texts[0], "interval": ", ".join(texts[1:])}


def _as_text(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        return f"{value:,.6g}" if math.isfinite(value) else ("" if math.isnan(value) else str(value))
    return str(value)


def set_summary(outputs: RunOutputs, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Compare a set of synapses with all of them, column by column.

    Returns:
        ``label``, ``group``, ``set`` and ``all`` (the median of continuous values, or the share of the set's commonest
        class, over the set and over all synapses), ``n`` values in the set. Columns without any are left out.
    """
    chosen = np.asarray(rows, dtype=np.int64)
    found = []
    for column in outputs.columns.values():
        inside, everywhere = column.values_n[chosen], column.values_n
        inside, everywhere = inside[np.isfinite(inside)], everywhere[np.isfinite(everywhere)]
        if not len(inside):
            continue
        if column.class_names:
            code = np.bincount(inside.astype(int)).argmax()
            name = column.class_names[code]
            shown = [f"{(values == code).mean():.0%} {name}" for values in (inside, everywhere)]
        else:
            shown = [f"{np.median(values):,.4g}" for values in (inside, everywhere)]
        found.append({"label": column.label, "group": column.group, "set": shown[0], "all": shown[1], "n": len(inside)})
    return found


class Found(NamedTuple):
    """Synapses that a search found, best first, without its examples.

    Attributes:
        rows_k: int64 (k,).
        values_k: float64 (k,): distance to the nearest example, or score.
        measure: ``distance`` or ``score``.
    """

    rows_k: np.ndarray
    values_k: np.ndarray
    measure: str


class FewShotSearch:
    """Search of a run's synapses by examples. Whitened features are computed once, at the first search for defects.

    Args:
        outputs: The run.
        config: Shrinkage and unsupervised score of the search for defects.
    """

    def __init__(self, outputs: RunOutputs, config: OutliersConfig | None = None) -> None:
        self._outputs = outputs
        self._config = config or OutliersConfig()
        self._white_nf: np.ndarray | None = None
        self._unusual_n: np.ndarray | None = None
        self._lock = threading.Lock()

    def find(self, example_rows: Sequence[int], kind: SearchKind, k: int) -> Found:
        """Find more synapses like the examples.

        Args:
            example_rows: Rows, 1 to 500.
            kind: ``similar``: nearest in feature space to any example; ``defective``: ranked as the outliers pipeline
                does, by likeness to the examples and unusualness.
            k: Number to find, 1 to 200; fewer if there are fewer others.

        Raises:
            TableError: If the numbers are out of range or nothing is left to find.
        """
        rows_e = np.unique(np.asarray(example_rows, dtype=np.int64))
        k = min(k, len(self._outputs) - len(rows_e), MAX_FOUND)
        if not 1 <= len(rows_e) <= MAX_EXAMPLES:
            raise TableError(f"A search takes 1 to {MAX_EXAMPLES} examples; {len(rows_e)} are selected.")
        if k < 1:
            raise TableError("Every synapse is an example: there is nothing left to find.")
        if kind == "similar":
            index = self._outputs.searchable
            (nearest,) = index.answers([Query("", rows_e, index.vectors(rows_e))], k)
            return Found(nearest.indices_qk[0], nearest.distances_qk[0].astype(np.float64), "distance")
        white_nf, unusual_n = self._prepared()
        score_n = detect(white_nf, unusual_n, rows_e, self._config.prior_examples).score_n.copy()
        score_n[rows_e] = -np.inf
        best_k = np.argsort(-score_n, kind="stable")[:k]
        return Found(best_k, score_n[best_k], "score")

    def _prepared(self) -> tuple[np.ndarray, np.ndarray]:
        """Whitened features and their unusualness; of many synapses only the principal components, to save memory."""
        with self._lock:
            if self._white_nf is None or self._unusual_n is None:
                components = self._outputs.synapses.obsm.get("X_pca")
                if len(self._outputs) > _WHOLE_BELOW and components is not None:
                    features_nf = np.asarray(components[:, :_COMPONENTS])
                else:
                    features_nf = self._outputs.features_nf
                white_nf = whiten(features_nf, self._config.shrinkage)
                self._unusual_n = unsupervised_score(white_nf, "mahalanobis")
                self._white_nf = white_nf.astype(np.float32)
            return self._white_nf, self._unusual_n
