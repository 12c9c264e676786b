"""A simulated volume with known truth: node and pipeline."""

from __future__ import annotations

import pandas as pd
from kedro.pipeline import Node, Pipeline

from synapseclr.simulation import SimulationConfig
from synapseclr.volumes.layers.layer import VolumeArray


def simulate_volume(
    config: SimulationConfig,
) -> tuple[VolumeArray, VolumeArray, VolumeArray, pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Simulate the EM, segmentation and cleft volumes and the tables that come with them."""
    from rich.progress import Progress

    from synapseclr.simulation import simulate
    from synapseclr.simulation.volume import STAGES

    with Progress() as bar:
        task = bar.add_task("Simulating", total=len(STAGES))

        def show(stage: str, share: float) -> None:
            bar.update(task, completed=STAGES.index(stage) + share, description=f"Simulating: {stage}")

        result = simulate(config, show)
        bar.update(task, completed=len(STAGES), description="Simulating")
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


def create_pipeline() -> Pipeline:
    """Parameters -> simulated volumes and tables."""
    return Pipeline(
        [
            Node(
                simulate_volume,
                inputs="params:simulation",
                outputs=[
                    "em_volume",
                    "segmentation_volume",
                    "cleft_volume",
                    "synapse_table",
                    "annotation_table",
                    "neurite_table",
                    "simulation_truth",
                ],
                name="simulate_volume",
            )
        ],
        tags="simulation",
    )
