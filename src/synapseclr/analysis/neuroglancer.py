"""Links that open a synapse in Neuroglancer, with its two neurites selected."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from pydantic import Field

from synapseclr.parameters import Parameters

_REMOTE = ("gs://", "s3://", "https://", "http://")
_NM = [1e-9, "m"]
LOCAL_ANNOTATIONS = "local://annotations"
"""Source of a layer whose annotations are in Neuroglancer's state."""


class NeuroglancerConfig(Parameters):
    """Where Neuroglancer finds the volumes. A browser cannot read local files, so a path makes no link."""

    viewer: str = Field(
        default="https://neuroglancer-demo.appspot.com/", description="Address of a Neuroglancer to open links with."
    )
    em: str | None = Field(
        default=None, description="Precomputed EM volume: gs://, s3:// or https://; null leaves out all links."
    )
    segmentation: str | None = Field(default=None, description="Precomputed segmentation; null shows EM alone.")
    cross_section_scale_nm: float = Field(default=4.0, gt=0, description="Zoom: nm per screen pixel.")


def neuroglancer_url(
    centre_xyz_nm: tuple[float, float, float], root_ids: tuple[int, ...], config: NeuroglancerConfig
) -> str | None:
    """Build a link to a place in the volumes.

    Args:
        centre_xyz_nm: Where to look, in nm in the volumes' own frame.
        root_ids: Segments to select, as the segmentation numbers them.
        config: Addresses of viewer and volumes.

    Returns:
        The link, or None if no EM volume is configured or it lies where a browser cannot read it.

    Source: the state's keys, https://github.com/google/neuroglancer/blob/master/src/ (``viewer.ts``, ``layer``).
    """
    em = _source(config.em)
    if em is None:
        return None
    layers: list[dict[str, Any]] = [{"type": "image", "source": em, "name": "em"}]
    segmentation = _source(config.segmentation)
    if segmentation is not None:
        # As text: JavaScript numbers would round 64-bit ids.
        segments = [str(int(root_id)) for root_id in root_ids]
        layers.append({"type": "segmentation", "source": segmentation, "name": "segmentation", "segments": segments})
    return _state_url(centre_xyz_nm, layers, config, "4panel" if segmentation is not None else "xy")


def _state_url(
    centre_xyz_nm: tuple[float, ...], layers: list[dict[str, Any]], config: NeuroglancerConfig, layout: str
) -> str:
    state = {
        "dimensions": {"x": _NM, "y": _NM, "z": _NM},
        "position": [round(float(value), 1) for value in centre_xyz_nm],
        "crossSectionScale": config.cross_section_scale_nm,
        "layers": layers,
        "layout": layout,
    }
    return f"{config.viewer.rstrip('/')}/#!{quote(json.dumps(state, separators=(',', ':')), safe='')}"


def annotation_layer(source: str, name: str, shader: str, config: NeuroglancerConfig) -> dict[str, Any]:
    """Describe an annotation layer as Neuroglancer's state has it.

    Args:
        source: Address of the precomputed annotations.
        name: Name of the layer.
        shader: Its shader.
        config: Addresses of the volumes: segments of a selected synapse are shown in the segmentation, if there is one.
    """
    layer = {"type": "annotation", "source": _source(source) or source, "name": name, "shader": shader}
    if _source(config.segmentation) is None:
        return layer
    linked = dict.fromkeys(("pre_root_id", "post_root_id"), "segmentation")
    return layer | {"linkedSegmentationLayer": linked, "filterBySegmentation": []}


def point_layer(
    name: str,
    ids: Sequence[str],
    points_n3: np.ndarray,
    property_values: tuple[dict[str, Any], Sequence[float]],
    shader: str,
) -> dict[str, Any]:
    """Describe points with one property as an annotation layer that lies in Neuroglancer's state itself.

    Args:
        name: Name of the layer.
        ids: Ids of the points.
        points_n3: Positions in nm, float (n, 3).
        property_values: The property's entry, as in a precomputed layer, and its value at each point.
        shader: The layer's shader.
    """
    entry, values = property_values
    annotations = [
        {"type": "point", "id": identifier, "point": point, "props": [value]}
        for identifier, point, value in zip(ids, np.round(points_n3, 1).tolist(), values, strict=True)
    ]
    source = {"url": LOCAL_ANNOTATIONS, "transform": {"outputDimensions": dict.fromkeys("xyz", _NM)}}
    return {
        "type": "annotation",
        "source": source,
        "name": name,
        "annotations": annotations,
        "annotationProperties": [entry],
        "shader": shader,
    }


def layer_url(centre_xyz_nm: tuple[float, ...], layer: dict[str, Any], config: NeuroglancerConfig) -> str | None:
    """Build a link to an annotation layer, over the volumes where they are configured.

    Args:
        centre_xyz_nm: Where to look, in nm.
        layer: From :func:`annotation_layer` or :func:`point_layer`.
        config: Addresses of viewer and volumes.

    Returns:
        The link, or None if a browser cannot read the annotations, or no volume to lay points over.
    """
    source = layer["source"]
    is_read = _source(config.em) if isinstance(source, dict) else source.startswith("precomputed://")
    if not is_read:
        return None
    volumes = (("image", "em", config.em), ("segmentation", "segmentation", config.segmentation))
    layers = [{"type": kind, "source": _source(place), "name": name} for kind, name, place in volumes if _source(place)]
    return _state_url(centre_xyz_nm, [*layers, layer], config, "4panel")


def synapse_links(obs: pd.DataFrame, config: NeuroglancerConfig) -> list[str | None]:
    """Links of many synapses.

    Args:
        obs: ``centre_{x,y,z}_nm`` and, for the neurites, ``pre_root_id``, ``post_root_id``.
        config: Addresses of viewer and volumes.

    Returns:
        One link per row; None for all where positions or volumes are missing.
    """
    if _source(config.em) is None or not {f"centre_{axis}_nm" for axis in "xyz"} <= set(obs):
        return [None] * len(obs)
    centres = obs[[f"centre_{axis}_nm" for axis in "xyz"]].to_numpy(float)
    # zip over the columns keeps 64-bit ids exact, which a row of mixed types would not.
    roots = list(zip(*(obs[name] for name in ("pre_root_id", "post_root_id") if name in obs), strict=True))
    roots = roots or [()] * len(obs)
    return [
        neuroglancer_url((x, y, z), tuple(int(root_id) for root_id in ids), config)
        for (x, y, z), ids in zip(centres, roots, strict=True)
    ]


def _source(url: str | None) -> str | None:
    """The address as Neuroglancer writes it; None for what a browser cannot read."""
    if url is None:
        return None
    bare = url.removeprefix("precomputed://")
    return f"precomputed://{bare}" if bare.startswith(_REMOTE) else None
