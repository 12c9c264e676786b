"""What the manifold is coloured by: every trait that is annotated at all, and the quality of the chunks."""

from __future__ import annotations

import numpy as np
import pandas as pd

from synapseclr.analysis.traits import TRAITS, trait_values
from synapseclr.plotting.scatter import Overlay
from synapseclr.volumes.synapse_ids import table_rows

_QUALITY = (
    ("synaptic_cleft_volume", "cleft volume (log10 voxels)", ()),
    ("n_cutout_sections", "cut-out sections", ()),
    ("is_padded", "at the volume's edge", ("inside", "padded")),
)


_RIGHT_ANGLE_DEG, _HALF_TURN_DEG = 90.0, 180.0


def orientation_overlays(obs: pd.DataFrame, orientations: pd.DataFrame) -> list[Overlay]:
    """The cleft's angle to the sections, and its direction within them.

    Args:
        obs: One row per synapse, with ``synapse_id``.
        orientations: ``synapse_id``, ``tilt_deg``, ``azimuth_deg``; synapses that are missing stay grey.
    """
    known = table_rows(orientations, obs["synapse_id"])
    tilt_n, azimuth_n = known["tilt_deg"].to_numpy(dtype=float), known["azimuth_deg"].to_numpy(dtype=float)
    return [
        Overlay("cleft against sections (°)", tilt_n, limits=(0.0, _RIGHT_ANGLE_DEG)),
        Overlay(
            "normal within sections (°)",
            azimuth_n,
            colour_map="twilight",
            limits=(0.0, _HALF_TURN_DEG),
        ),
    ]


def collect_overlays(obs: pd.DataFrame) -> list[Overlay]:
    """Choose the overlays that these synapses allow.

    Args:
        obs: One row per synapse: metadata and annotations.

    Returns:
        Annotated traits in their published order, then chunk quality; at least one overlay, if only a grey one.
    """
    overlays = [Overlay(trait.label, trait_values(obs, trait), trait.class_names) for trait in TRAITS]
    overlays = [overlay for overlay in overlays if np.isfinite(overlay.values_n).any()]
    for column, label, class_names in _QUALITY:
        if column in obs:
            values_n = obs[column].astype("float64").to_numpy()
            if column == "synaptic_cleft_volume":
                # A chunk without a cleft has no volume to take the logarithm of: grey.
                values_n = np.log10(np.where(values_n > 0, values_n, np.nan))
            overlays.append(Overlay(label, values_n, class_names))
    return overlays or [Overlay("synapses", np.full(len(obs), np.nan))]
