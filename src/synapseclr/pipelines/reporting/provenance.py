"""The report's last section: times, where weights and chunks came from, parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from synapseclr.pipelines.reporting.contents import as_text
from synapseclr.plotting.report import Section, Table
from synapseclr.storage.declared_sizes import parse_json

_FIXED = {
    "fidelity",
    "channel_organization",
    "background",
    "norm_scale",
    "intensity_mean",
    "intensity_std",
    "axial_to_sagittal_spacing",
    "final_crop_size",
    "final_img_size",
    "connectivity",
    "active_zone_inflation_radii",
}
"""Fields of the augmentation that count where its random steps are off."""


def describe_run(seconds: Mapping[str, float], provenance: Mapping[str, Any], parameters: Mapping[str, Any]) -> Section:
    """What was run: time, provenance and parameters."""
    times = [[name, f"{value:.1f}"] for name, value in seconds.items()]
    images = _json_object(provenance.get("augmentation"))
    told = {
        name: _json_object(value) or value
        for name, value in provenance.items()
        if not (images and name == "augmentation")
    }
    origins = [[str(name), as_text(value)] for name, value in flatten(told).items()]
    # The named augmentations are alternatives; the one in use stands under pretraining.augmentation.
    used = {name: value for name, value in parameters.items() if name != "augmentations"}
    settings = [[name, as_text(value)] for name, value in flatten(used).items()]
    tables = [Table(("pipeline", "seconds"), times)]
    if origins:
        tables.append(Table(("provenance", "value"), origins, "Where weights and chunks came from", is_folded=True))
    if images:
        caption = "How chunks became the images that were embedded: the augmentation without its random steps"
        tables.append(Table(("step", "value"), _image_rows(images), caption, is_folded=True))
    tables.append(Table(("parameter", "value"), settings, f"{len(settings)} parameters", is_folded=True))
    return Section("Provenance", tables=tables)


def _json_object(value: Any) -> dict[str, Any] | None:
    """What a text holds if it is a JSON object, as embeddings keep nested provenance."""
    if not isinstance(value, str) or not value.startswith("{"):
        return None
    try:
        found = parse_json(value)
    except json.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _image_rows(images: Mapping[str, Any]) -> list[list[str]]:
    """Steps that are on and off, each in a row, then the values that count."""
    steps = {name.removeprefix("enable_"): bool(on) for name, on in images.items() if name.startswith("enable_")}
    rows = [
        [label, ", ".join(name.replace("_", " ") for name, on in steps.items() if on is wanted) or "none"]
        for label, wanted in (("steps on", True), ("steps off", False))
    ]
    are_fixed = not any(on for name, on in steps.items() if name != "active_zone")
    counting = [name for name in images if not name.startswith("enable_") and (name in _FIXED or not are_fixed)]
    return rows + [[name.replace("_", " "), as_text(images[name])] for name in counting]


def flatten(tree: Mapping[str, Any] | BaseModel, prefix: str = "") -> dict[str, Any]:
    """Flatten nested parameters, validated models among them, to dotted names.

    Args:
        tree: Nested mappings and pydantic models.
        prefix: Name of the tree.
    """
    items = tree.model_dump() if isinstance(tree, BaseModel) else tree
    flat: dict[str, Any] = {}
    for name, value in items.items():
        path = f"{prefix}.{name}" if prefix else str(name)
        if isinstance(value, Mapping | BaseModel):
            flat |= flatten(value, path)
        else:
            flat[path] = value
    return flat
