"""Nodes of the preprocessing pipeline."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pandas as pd

from synapseclr.errors import InputError
from synapseclr.volumes import (
    ChunkSource,
    ChunkStore,
    ChunkStream,
    PreprocessingConfig,
    VolumeLayer,
    check_annotation_table,
    check_synapse_table,
    cut_chunks,
    import_chunks,
    summarise,
    tabulate_chunks,
    tabulate_rejected,
    transform_annotations,
)
from synapseclr.volumes.input_shares import Share, as_document, judge_chunks
from synapseclr.volumes.preflight import InputCheck, check_inputs, check_tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:  # Kedro resolves the hints of nodes to validate parameters
    Figure = Any

logger = logging.getLogger(__name__)


def check_before_cutting(
    em_volume: VolumeLayer,
    segmentation_volume: VolumeLayer,
    cleft_volume: VolumeLayer,
    synapse_table: pd.DataFrame,
    annotation_table: pd.DataFrame,
    config: PreprocessingConfig,
    chunk_source: ChunkSource,
) -> tuple[dict[str, Any], Figure]:
    """Stop before the first chunk is cut if tables and volumes cannot belong together or cannot be read."""
    layers = (em_volume, segmentation_volume, cleft_volume)
    found = inspect(layers, synapse_table, annotation_table, config, chunk_source)
    found.conclude()
    return found.document(), draw_first_chunk(found, config)


def inspect(
    layers: tuple[VolumeLayer, VolumeLayer, VolumeLayer],
    synapse_table: pd.DataFrame,
    annotation_table: pd.DataFrame,
    config: PreprocessingConfig,
    chunk_source: ChunkSource,
) -> InputCheck:
    """Look at what preprocessing would read: tables and volumes, or the tables alone if chunks are imported."""
    synapses, annotations = check_synapse_table(synapse_table), check_annotation_table(annotation_table)
    annotated_ids = annotations["syn_id" if "syn_id" in annotations else "synapse_id"]
    if chunk_source.kind != "volumes":
        return check_tables(synapses, annotated_ids, config)
    return check_inputs(layers, synapses, annotated_ids, config)


def draw_first_chunk(found: InputCheck, config: PreprocessingConfig) -> Figure:
    """Draw the first synapse that was tried, alone and with its masks."""
    from synapseclr.plotting.sections import section_rows, synapse_section

    if found.first_chunk is None:
        return section_rows([], [], [], config.voxel_size_nm)
    synapse_id, chunk_cxyz = found.first_chunk
    return synapse_section(chunk_cxyz, config.voxel_size_nm, f"synapse {synapse_id}")


def cut_synapse_chunks(
    em_volume: VolumeLayer,
    segmentation_volume: VolumeLayer,
    cleft_volume: VolumeLayer,
    synapse_table: pd.DataFrame,
    config: PreprocessingConfig,
    chunk_source: ChunkSource,
    input_check: dict[str, Any],
) -> ChunkStream:
    """Cut a chunk of intensity and mask codes around every synapse, or import chunks that were cut elsewhere.

    Nothing is cut before the inputs have passed their check.
    """
    logger.debug("Cutting after the check of %s synapses.", input_check["n_synapses"])
    synapses = check_synapse_table(synapse_table)
    if chunk_source.kind != "volumes":
        return import_chunks(chunk_source, synapses, config)
    return cut_chunks(em_volume, segmentation_volume, cleft_volume, synapses, config)


def describe_chunks(
    synapse_chunks: ChunkStore, synapse_table: pd.DataFrame, annotation_table: pd.DataFrame, config: PreprocessingConfig
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Tabulate the stored chunks, transform their annotations, and report what was dropped and why.

    Raises:
        InputError: If the chunks as a whole show that tables and volumes do not belong together.
    """
    synapses = check_synapse_table(synapse_table)
    metadata, statistics = tabulate_chunks(synapse_chunks, synapses, config.position_unit_nm)
    annotations = transform_annotations(annotation_table, synapses["id"])
    report = summarise(synapse_chunks, synapses, metadata, statistics, annotations.unknown_ids)
    shares, findings = judge_chunks(metadata, synapse_chunks.rejected, Share(**statistics["constant_sections"]), config)
    errors = [finding.text for finding in findings if finding.severity == "error"]
    if errors:
        raise InputError(
            f"The chunks cannot be right. {' '.join(errors)} To go on nevertheless, raise "
            f"preprocessing.max_suspect_fraction ({config.max_suspect_fraction:g})."
        )
    report["suspect"], report["warnings"] = as_document(shares), [finding.text for finding in findings]
    for text in report["warnings"]:
        logger.warning(text)
    return metadata, annotations.traits, annotations.scales, report


def list_rejected_synapses(synapse_chunks: ChunkStore) -> pd.DataFrame:
    """List the synapses that have no chunk, with the reason."""
    return tabulate_rejected(synapse_chunks)


def plot_preprocessing(report: dict[str, Any]) -> Figure:
    """Draw the histograms of the preprocessing report."""
    from synapseclr.plotting import preprocessing_histograms

    return preprocessing_histograms(report)
