"""Answers to the page: the run as a whole, one synapse, and the synapses that are like a set."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from synapseclr.analysis.column_labels import (
    absence_text,
    column_label,
    measured_values,
    number_text,
    scale_unit,
    unit_text,
    value_text,
)
from synapseclr.analysis.occlusion import REGIONS
from synapseclr.analysis.outliers import OutliersConfig, detect, unsupervised_score, whiten
from synapseclr.analysis.search import Query
from synapseclr.analysis.traits import Trait, class_columns
from synapseclr.analysis.traits.calibration import LEVELS
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
            {
                "name": column.name,
                "label": column.label,
                "group": column.group,
                "classes": column.class_names,
                "unit": column.unit,
            }
            for column in outputs.columns.values()
        ],
        "notes": outputs.notes,
        "can_save": can_save,
        "can_accept": can_save and outputs.accepted_defects is not None,
        "can_open": len(outputs) > 0 and outputs.neuroglancer_link(0) is not None,
        "roots": list(outputs.roots),
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
        "roots": {name: str(values_n[row]) for name, values_n in outputs.roots.items() if values_n[row]},
        "metadata": _metadata(outputs, row),
        "traits": _traits(outputs, row),
        "occlusion": _occlusion(outputs, synapse_id),
        "neighbours": (nearest := neighbours(outputs, row)),
        "agreement": _agreement(outputs, row, [other["row"] for other in nearest]),
    }


def _metadata(outputs: RunOutputs, row: int) -> list[list[str]]:
    """Name and value of what is known of a synapse beside its traits."""
    traits = {trait.name for trait in outputs.traits}
    obs = outputs.synapses.obs
    return [
        [str(column_label(str(name), outputs.traits).name), value_text(str(name), obs[name].iloc[row], outputs.traits)]
        for name in obs
        if str(name) not in traits
    ]


def _agreement(outputs: RunOutputs, row: int, others: Sequence[int]) -> list[dict[str, Any]]:
    """Annotated traits among the neighbours: the commonest class and how many have it, or the median and range.

    Returns:
        ``label``, ``text``, ``n`` (neighbours with a value), and ``agrees``: the synapse is of that class, or its value
        within the range; None if it has no value.
    """
    found = []
    for column in outputs.columns.values():
        values = column.values_n[np.asarray(others, dtype=np.int64)] if column.group == "Annotated" else np.empty(0)
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        own = float(column.values_n[row])
        if column.class_names:
            code = int(np.bincount(values.astype(int)).argmax())
            text = f"{int((values == code).sum())} of {len(values)} {column.class_names[code]}"
            agrees = own == code
        else:
            low, middle, high = (float(end) for end in np.quantile(values, [0.0, 0.5, 1.0]))
            text = f"median {number_text(middle, column.unit)} ({number_text(low)} to {number_text(high)})"
            agrees = low <= own <= high
        found.append(
            {"label": column.label, "text": text, "n": len(values), "agrees": agrees if math.isfinite(own) else None}
        )
    return found


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
    """Annotated and imputed values of the traits that have either, both in the measured unit where it is known."""
    of_synapse = None if outputs.imputed is None else outputs.imputed.iloc[row]
    obs = outputs.synapses.obs.iloc[row]
    rows = [_trait(outputs, trait, obs, of_synapse) for trait in outputs.traits]
    return [found for found in rows if found["annotated"] is not None or found["imputed"] is not None]


def _trait(outputs: RunOutputs, trait: Trait, obs: pd.Series, imputed: pd.Series | None) -> dict[str, Any]:
    annotated = obs.get(trait.name)
    found: dict[str, Any] = {"label": trait.label, "annotated": None, "disagrees": False, "is_other_scale": False}
    value: float | None = None
    if annotated is not None and not pd.isna(annotated):
        value = float(annotated)
        if trait.class_names:
            found["annotated"] = trait.class_names[int(value)]
        elif not math.isfinite(value):
            found["annotated"], value = absence_text(trait, outputs.traits), None
        else:
            measured_n = measured_values(np.array([value]), trait, outputs.tables.get("annotation_scales"))
            unit = scale_unit(trait) if measured_n is None else unit_text(trait.unit)
            found["annotated"] = number_text(value if measured_n is None else float(measured_n[0]), unit)
            found["is_other_scale"] = measured_n is None and trait.transform != "none"
    told = _imputed(trait, imputed)
    if value is not None and imputed is not None:
        found["disagrees"] = _disagrees(trait, value, imputed)
    return found | told


def _disagrees(trait: Trait, annotated: float, imputed: pd.Series) -> bool:
    """Compare: another class is more probable, or the number lies outside the 90 % interval on the trait's scale."""
    if trait.kind == "multiclass":
        probabilities = np.array([imputed.get(f"{name}_probability", np.nan) for name in class_columns(trait)], float)
        return bool(np.isfinite(probabilities).any() and int(np.nanargmax(probabilities)) != int(annotated))
    if trait.class_names:
        probability = float(imputed.get(f"{trait.name}_probability", np.nan))
        return (probability >= 0.5) != (annotated == 1.0) if math.isfinite(probability) else False
    mean, spread = (float(imputed.get(f"{trait.name}_{kind}", np.nan)) for kind in ("mean", "sd"))
    return bool(abs(annotated - mean) > LEVELS[90] * spread)  # False for NaN


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
    if not pd.isna(mean):
        low, high = (imputed.get(f"{trait.measured_name}_{end}_90", np.nan) for end in ("lower", "upper"))
        interval = "" if pd.isna(low) else f"90 %: {number_text(float(low))} to {number_text(float(high))}"
        return {"imputed": number_text(float(mean), unit_text(trait.unit)), "interval": interval}
    mean, spread = (imputed.get(f"{trait.name}_{kind}", np.nan) for kind in ("mean", "sd"))
    if pd.isna(mean):
        return nothing
    interval = "" if pd.isna(spread) else f"± {number_text(float(spread))}"
    return {"imputed": number_text(float(mean), scale_unit(trait)), "interval": interval}


def _imputed_classes(trait: Trait, imputed: pd.Series) -> dict[str, Any] | None:
    """The most probable classes; None if the trait was not imputed."""
    columns = zip(class_columns(trait), trait.classes, strict=True)
    found = [(float(imputed.get(f"{name}_probability", np.nan)), of_class) for name, of_class in columns]
    known = sorted((each for each in found if math.isfinite(each[0])), reverse=True)[:_MOST_PROBABLE]
    if not known:
        return None
    texts = [f"{probability:.0%} {of_class}" for probability, of_class in known]
    return {"imputed": texts[0], "interval": ", ".join(texts[1:])}


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

    def find(self, example_rows: Sequence[int] | np.ndarray, kind: SearchKind, k: int) -> Found:
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
                is_large = len(self._outputs) > _WHOLE_BELOW and "X_pca" in self._outputs.synapses.obsm
                features_nf = self._outputs.components_nf if is_large else self._outputs.features_nf
                white_nf = whiten(features_nf, self._config.shrinkage)
                self._unusual_n = unsupervised_score(white_nf, "mahalanobis")
                self._white_nf = white_nf.astype(np.float32)
            return self._white_nf, self._unusual_n
