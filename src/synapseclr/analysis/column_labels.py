"""Names, units and numbers for people: one wording for the explorer, the report and the figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from synapseclr.analysis.morphometry import MORPHOMETRY_LABELS
from synapseclr.analysis.traits import TRAITS, Trait
from synapseclr.volumes.traits import SIDE_NAMES, counted_classes, readable_name

NO_VALUE = "no value"
_UNITS = {"um": "µm", "um2": "µm²", "um3": "µm³", "nm2": "nm²", "nm3": "nm³", "deg": "°", "vx": "voxels"}
_SIGNIFICANT = 3
_TIMES_TEN = " \N{MULTIPLICATION SIGN} 10"
_SMALLEST = -5  # power of ten below which decimals are hard to count


class ColumnLabel(NamedTuple):
    """Name of a column for people.

    Attributes:
        name: Without the unit.
        unit: As it is printed behind a number; empty for counts, shares and classes.
    """

    name: str
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name


COLUMN_LABELS: dict[str, ColumnLabel] = {
    "synapse_id": ColumnLabel("synapse id"),
    "chunk_index": ColumnLabel("position in the chunk store"),
    "cleft_id": ColumnLabel("cleft id"),
    **{f"{side}_root_id": ColumnLabel(f"{adjective} neurite (root id)") for side, adjective in SIDE_NAMES.items()},
    **{f"centre_{axis}_nm": ColumnLabel(f"position {axis}", "nm") for axis in "xyz"},
    **{f"{side}_synaptic_volume": ColumnLabel(f"{word} mask volume", "voxels") for side, word in SIDE_NAMES.items()},
    "synaptic_cleft_volume": ColumnLabel("cleft mask volume", "voxels"),
    "log10_cleft_volume": ColumnLabel("cleft mask volume", "log10 voxels"),
    "n_cutout_sections": ColumnLabel("missing sections"),
    "n_padded_voxels": ColumnLabel("voxels beyond the volume"),
    "is_padded": ColumnLabel("reaches beyond the volume"),
    **{f"is_{side}_missing": ColumnLabel(f"{adjective} mask missing") for side, adjective in SIDE_NAMES.items()},
    "is_autapse": ColumnLabel("autapse"),
    **{f"n_mitos_{side}": ColumnLabel(f"number of {adjective} mitochondria") for side, adjective in SIDE_NAMES.items()},
    "rotation_spread": ColumnLabel("spread of the features over poses"),
    **{f"normal_{axis}": ColumnLabel(f"cleft normal, {axis}") for axis in "xyz"},
    "tilt_deg": ColumnLabel("tilt of the cleft normal", "°"),
    "azimuth_deg": ColumnLabel("azimuth of the cleft normal", "°"),
    "n_cleft_voxels": ColumnLabel("cleft in the chunk", "voxels"),
    **{name: ColumnLabel(*label) for name, label in MORPHOMETRY_LABELS.items()},
}
"""Columns of the project's tables; those of traits are declared by the traits."""


def column_label(name: str, traits: Sequence[Trait] = TRAITS) -> ColumnLabel:
    """Name a column: by a trait's declaration, by the list above, or else from its name and the unit at its end.

    Args:
        name: Name of the column in a table.
        traits: Declared traits; both a trait's transformed values and its measured column are known.
    """
    for trait in traits:
        if name == trait.name:
            return ColumnLabel(trait.label, "" if trait.is_class else scale_unit(trait))
        if name in (trait.column, trait.measured_name) and not trait.is_class:
            return ColumnLabel(trait.label, unit_text(trait.unit))
    if name in COLUMN_LABELS:
        return COLUMN_LABELS[name]
    words, unit = readable_name(name)
    return ColumnLabel(words, unit_text(unit))


def mean_label(name: str, traits: Sequence[Trait] = TRAITS) -> str:
    """Say over values of a trait, or of one of its classes, what their mean is: a share, or a mean in a unit.

    >>> mean_label("pre_cell_type"), mean_label("log10_cleft_volume")
    ('share: inhibitory', 'mean (log10 voxels)')
    """
    counted = counted_classes(traits)
    if name in counted:
        return f"share: {counted[name]}"
    return str(ColumnLabel("mean", column_label(name, traits).unit))


def unit_text(unit: str | None) -> str:
    """Print a unit: ``um`` is µm, ``deg`` is °."""
    return _UNITS.get(unit or "", unit or "")


def scale_unit(trait: Trait) -> str:
    """Unit of a trait's transformed values: its own where nothing was transformed, else the transform."""
    return unit_text(trait.unit) if trait.transform == "none" else trait.scale_label


def number_text(value: float, unit: str = "") -> str:
    """Print a number with three significant digits, thousands separated, never as 1e+04; then its unit.

    >>> number_text(19640.4, "nm"), number_text(0.50001), number_text(float("nan"))
    ('19,640 nm', '0.5', 'no value')
    """
    if not math.isfinite(value):
        return NO_VALUE
    size = math.floor(math.log10(abs(value))) if value else 0
    if size < _SMALLEST:
        power = str(size).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return f"{value / 10.0**size:.1f}{_TIMES_TEN}{power}" + ("" if unit == "°" or not unit else " ") + unit
    text = f"{value:,.{min(max(_SIGNIFICANT - 1 - size, 0), 9)}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    text = "0" if text == "-0" else text
    return text + ("" if unit == "°" or not unit else " ") + unit


def absence_text(trait: Trait, traits: Sequence[Trait] = TRAITS) -> str:
    """Say why a synapse has no size to measure (-inf in zero-inflated columns), by the trait it depends on."""
    condition = next((other for other in traits if other.name == trait.conditioned_on), None)
    return f"{condition.label}: {condition.classes[0]}" if condition is not None else "nothing to measure"


def measured_values(values_n: np.ndarray, trait: Trait, scales: pd.DataFrame | None) -> np.ndarray | None:
    """Undo the transform of a trait's annotated values.

    Args:
        values_n: Transformed values, float (n,).
        trait: The trait.
        scales: ``annotation_scales``: ``trait, transform, location, scale``; None: not known.

    Returns:
        Values in the trait's unit, float64 (n,); None if the table does not tell how they were transformed.
    """
    rows = [] if scales is None else scales[scales["trait"] == trait.name].to_dict("records")
    if trait.is_class or not rows or not np.isfinite([rows[0]["location"], rows[0]["scale"]]).all():
        return None
    numbers_n = rows[0]["location"] + rows[0]["scale"] * np.asarray(values_n, dtype=np.float64)
    return np.expm1(numbers_n) if str(rows[0]["transform"]).startswith("log1p") else numbers_n


def value_text(name: str, value: Any, traits: Sequence[Trait] = TRAITS) -> str:
    """Print one cell of a table of synapses: classes by their names, ids exactly, numbers with their unit."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    trait = next((each for each in traits if each.name == name), None)
    if isinstance(value, float | np.floating):
        if trait is not None and trait.is_class and math.isfinite(value):
            return trait.classes[int(value)]
        if trait is not None and value == -math.inf:
            return absence_text(trait, traits)
        return number_text(float(value), column_label(name, traits).unit)
    return "" if value is None or value is pd.NA else str(value)
