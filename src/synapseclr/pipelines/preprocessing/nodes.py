"""Nodes of the preprocessing pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from synapseclr.volumes import (
    ChunkStore,
    ChunkStream,
    PreprocessingConfig,
    VolumeLayer,
    check_synapse_table,
    cut_chunks,
    summarise,
    tabulate_chunks,
    transform_annotations,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:  # Kedro resolves the hints of nodes to validate parameters
    Figure = Any


def cut_synapse_chunks(
    em_volume: VolumeLayer,
    segmentation_volume: VolumeLayer,
    cleft_volume: VolumeLayer,
    synapse_table: pd.DataFrame,
    config: PreprocessingConfig,
) -> ChunkStream:
    """Cut a chunk of intensity and mask codes around every synapse."""
    return cut_chunks(em_volume, segmentation_volume, cleft_volume, check_synapse_table(synapse_table), config)


def describe_chunks(
    synapse_chunks: ChunkStore, synapse_table: pd.DataFrame, annotation_table: pd.DataFrame, config: PreprocessingConfig
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Tabulate the stored chunks, transform their annotations, and report what was dropped and why."""
    synapses = check_synapse_table(synapse_table)
    metadata, statistics = tabulate_chunks(synapse_chunks, synapses, config.position_unit_nm)
    annotations = transform_annotations(annotation_table, synapses["id"])
    report = summarise(synapse_chunks, synapses, metadata, statistics, annotations.unknown_ids)
    return metadata, annotations.traits, annotations.scales, report


def plot_preprocessing(report: dict[str, Any]) -> Figure:
    """Draw the histograms of the preprocessing report."""
    from synapseclr.plotting import preprocessing_histograms

    return preprocessing_histograms(report)
