"""Nodes of the simulation pipeline."""

from __future__ import annotations

import pandas as pd

from synapseclr.simulation import SimulationConfig
from synapseclr.volumes.layers.layer import VolumeArray


def simulate_volume(
    config: SimulationConfig,
) -> tuple[VolumeArray, VolumeArray, VolumeArray, pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Simulate the EM, segmentation and cleft volumes and the tables that come with them."""
    from synapseclr.simulation import simulate

    result = simulate(config)
    arrays = (result.em_xyz, result.segmentation_xyz, result.cleft_xyz)
    em, segmentation, cleft = (VolumeArray(array, result.voxel_size_nm) for array in arrays)
    return (
        em,
        segmentation,
        cleft,
        result.synapse_table,
        result.annotation_table,
        result.neurite_table,
        result.truth_table,
    )
