"""Nodes of the preprocessing pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from synapseclr.volumes import (
    ChunkSource,
    ChunkStore,
    ChunkStream,
    PreprocessingConfig,
    VolumeLayer,
    check_synapse_table,
    cut_chunks,
    import_chunks,
    summarise,
    tabulate_chunks,
    tabulate_rejected,
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
    chunk_source: ChunkSource,
) -> ChunkStream:
    """Cut a chunk of intensity and mask codes around every synapse, or import chunks that were cut elsewhere."""
    synapses = check_synapse_table(synapse_table)
    if chunk_source.kind != "volumes":
        return import_chunks(chunk_source, synapses, config)
    return cut_chunks(em_volume, segmentation_volume, cleft_volume, synapses, config)


def describe_chunks(
    synapse_chunks: ChunkStore, synapse_table: pd.DataFrame, annotation_table: pd.DataFrame, config: PreprocessingConfig
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Tabulate the stored chunks, transform their annotations, and report what was dropped and why."""
    synapses = check_synapse_table(synapse_table)
    metadata, statistics = tabulate_chunks(synapse_chunks, synapses, config.position_unit_nm)
    annotations = transform_annotations(annotation_table, synapses["id"])
    report = summarise(synapse_chunks, synapses, metadata, statistics, annotations.unknown_ids)
    return metadata, annotations.traits, annotations.scales, report


def list_rejected_synapses(synapse_chunks: ChunkStore) -> pd.DataFrame:
    """List the synapses that have no chunk, with the reason."""
    return tabulate_rejected(synapse_chunks)


def plot_preprocessing(report: dict[str, Any]) -> Figure:
    """Draw the histograms of the preprocessing report."""
    from synapseclr.plotting import preprocessing_histograms

    return preprocessing_histograms(report)
