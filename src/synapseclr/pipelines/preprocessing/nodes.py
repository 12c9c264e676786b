"""Nodes of the preprocessing pipeline."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from synapseclr.analysis.column_labels import column_label, number_text
from synapseclr.analysis.morphometry import MORPHOMETRY_LABELS, store_morphometry
from synapseclr.errors import InputError
from synapseclr.pipelines import Drawing, Figure
from synapseclr.plotting.report import Picture, ReportingConfig, Section, Table, as_text, pipeline_section
from synapseclr.plotting.sections import contact_sheet, read_slabs, section_rows, synapse_section
from synapseclr.volumes import (
    PUBLISHED_TRAITS,
    ChunkSource,
    ChunkStore,
    ChunkStream,
    PreprocessingConfig,
    Traits,
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
from synapseclr.volumes.annotations import join_synapse_columns
from synapseclr.volumes.input_shares import Share, as_document, judge_chunks
from synapseclr.volumes.preflight import InputCheck, check_inputs, check_tables
from synapseclr.volumes.root_versions import PROVENANCE
from synapseclr.volumes.traits import class_texts, trait_values

logger = logging.getLogger(__name__)

_COUNTS = {
    "n_synapses_in_table": "synapses in the table",
    "n_synapses_without_files": "of these without files",
    "n_chunks": "chunks",
    "n_rejected": "rejected",
    "n_padded": column_label("is_padded").name,
    "n_pre_missing": column_label("is_pre_missing").name,
    "n_post_missing": column_label("is_post_missing").name,
    "n_autapses": "autapses: both root ids are the same",
    "n_painted": "with a painted cleft, at the contact of the segments",
    "n_neurites": "neurites",
    "n_annotations_of_unknown_synapses": "annotations of unknown synapses",
    "chunk_size_vx": "chunk size (voxels)",
    "voxel_size_nm": "voxel size (nm)",
}
_SOURCE = {
    "datastack": "CAVE datastack",
    "table": "table of the datastack",
    "materialization_version": "materialization version",
    "root_ids_at": "root ids as of",
    "n_changed_root_ids": "root ids that are others than in the version",
    "n_unmapped_root_ids": "root ids that could not be looked up",
    "bounding_box_nm": "box (nm)",
}
_FACTS = ("n_neurites", "n_rejected", "chunk_size_vx", "voxel_size_nm")


def check_before_cutting(
    em_volume: VolumeLayer,
    segmentation_volume: VolumeLayer,
    cleft_volume: VolumeLayer,
    synapse_table: pd.DataFrame,
    annotation_table: pd.DataFrame,
    config: PreprocessingConfig,
    chunk_source: ChunkSource,
    traits: Traits = PUBLISHED_TRAITS,
) -> tuple[dict[str, Any], Figure]:
    """Stop before the first chunk is cut if tables and volumes cannot belong together or cannot be read."""
    layers = (em_volume, segmentation_volume, cleft_volume)
    found = inspect(layers, synapse_table, annotation_table, config, chunk_source, traits)
    found.conclude()
    return found.document(), draw_first_chunk(found, config)


def inspect(
    layers: tuple[VolumeLayer, VolumeLayer, VolumeLayer],
    synapse_table: pd.DataFrame,
    annotation_table: pd.DataFrame,
    config: PreprocessingConfig,
    chunk_source: ChunkSource,
    traits: Traits = PUBLISHED_TRAITS,
) -> InputCheck:
    """Look at what preprocessing would read: tables and volumes, or the tables alone if chunks are imported."""
    synapses = check_synapse_table(synapse_table, config.position_unit_nm)
    annotations = check_annotation_table(join_synapse_columns(annotation_table, synapses, traits), traits)
    annotated_ids = annotations["syn_id" if "syn_id" in annotations else "synapse_id"]
    if chunk_source.kind != "volumes":
        return check_tables(synapses, annotated_ids, config)
    return check_inputs(layers, synapses, annotated_ids, config)


def draw_first_chunk(found: InputCheck, config: PreprocessingConfig) -> Figure:
    """Draw the first synapse that was tried, alone and with its masks."""
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
    synapses = check_synapse_table(synapse_table, config.position_unit_nm)
    if chunk_source.kind != "volumes":
        return import_chunks(chunk_source, synapses, config)
    return cut_chunks(em_volume, segmentation_volume, cleft_volume, synapses, config)


def measure_morphometry(synapse_chunks: ChunkStore) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure areas, volumes, lengths and distances of every synapse; the same table as Parquet and as CSV."""
    table = store_morphometry(synapse_chunks)
    return table, table


def describe_chunks(
    synapse_chunks: ChunkStore,
    synapse_table: pd.DataFrame,
    annotation_table: pd.DataFrame,
    synapse_morphometry: pd.DataFrame,
    config: PreprocessingConfig,
    traits: Traits = PUBLISHED_TRAITS,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Tabulate the stored chunks, transform their annotations, and report what was dropped and why.

    The columns of the morphometry stand last in the metadata; a column of the synapse table under such a name stays.

    Raises:
        InputError: If the chunks as a whole show that tables and volumes do not belong together.
    """
    synapses = check_synapse_table(synapse_table, config.position_unit_nm)
    metadata, statistics = tabulate_chunks(synapse_chunks, synapses, config.position_unit_nm)
    measured = ["synapse_id", *(name for name in MORPHOMETRY_LABELS if name not in metadata)]
    metadata = metadata.merge(synapse_morphometry[measured], on="synapse_id", how="left", validate="one_to_one")
    labels = join_synapse_columns(annotation_table, synapses, traits)
    annotations = transform_annotations(labels, synapses["id"], traits)
    twice = [name for name in metadata if name in annotations.traits and name != "synapse_id"]
    metadata = metadata.drop(columns=twice)  # a column of the synapse table that is a trait is told by the annotations
    report = summarise(synapse_chunks, synapses, metadata, statistics, annotations.unknown_ids)
    shares, findings = judge_chunks(metadata, synapse_chunks.rejected, Share(**statistics["constant_sections"]), config)
    errors = [finding.text for finding in findings if finding.severity == "error"]
    if errors:
        raise InputError(
            f"The chunks cannot be right. {' '.join(errors)} To go on nevertheless, raise "
            f"preprocessing.max_suspect_fraction ({config.max_suspect_fraction:g})."
        )
    if source := synapse_table.attrs.get(PROVENANCE):
        report["synapse_source"] = source
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


def plot_morphometry(synapse_morphometry: pd.DataFrame) -> Figure:
    """Draw how the synapses' sizes are distributed."""
    from synapseclr.plotting import morphometry_histograms

    return morphometry_histograms(synapse_morphometry)


def describe_preprocessing(
    preprocessing_report: dict[str, Any],
    histograms: Drawing,
    synapse_morphometry: pd.DataFrame,
    morphometry_figure: Drawing,
    synapse_chunks: ChunkStore,
    synapse_metadata: pd.DataFrame,
    annotations: pd.DataFrame,
    input_check: dict[str, Any],
    config: ReportingConfig,
    traits: Traits = PUBLISHED_TRAITS,
) -> dict[str, Any]:
    """Write the report's sections on the data: what preprocessing found, sizes, and synapses drawn at random."""
    obs = synapse_metadata[["synapse_id"]].merge(annotations, on="synapse_id", how="left", validate="one_to_one")
    return pipeline_section(
        [
            describe_examples(synapse_chunks, obs, config, traits),
            describe_sizes(synapse_morphometry, morphometry_figure),
            describe_data(preprocessing_report, histograms),
        ],
        config,
        made_from={"chunks": synapse_chunks.sha256},
        warnings=preprocessing_report.get("warnings", ()),
        facts={name: preprocessing_report[name] for name in _FACTS if name in preprocessing_report}
        | data_set_name(preprocessing_report, input_check),
    )


def data_set_name(preprocessing_report: Mapping[str, Any], input_check: Mapping[str, Any]) -> dict[str, str]:
    """Name the data set by its datastack in CAVE, or else by the address of the EM volume.

    Returns:
        ``data_set``; nothing if the chunks were imported, so that no volume was opened.
    """
    datastack = preprocessing_report.get("synapse_source", {}).get("datastack")
    em_volume = [layer["uri"] for layer in input_check.get("layers", ())[:1]]
    named = [str(name) for name in (datastack, *em_volume) if name]
    return {"data_set": named[0].removeprefix("file://")} if named else {}


def describe_data(preprocessing_report: Mapping[str, Any], histograms: Drawing) -> Section:
    """Tabulate what preprocessing found, dropped and why."""
    rows = [
        [label, as_text(preprocessing_report[key])] for key, label in _COUNTS.items() if key in preprocessing_report
    ]
    if source := preprocessing_report.get("synapse_source"):
        rows += [[label, as_text(source[key])] for key, label in _SOURCE.items() if source.get(key) is not None]
    tables = [Table(("data", "value"), rows)]
    shares = preprocessing_report.get("suspect", {})
    if shares:
        listed = [[share["label"], f"{share['n']:,}", f"{share['of']:,}"] for share in shares.values()]
        tables.append(Table(("what table and volumes may disagree on", "found", "of"), listed, has_numbers=True))
    rejected = preprocessing_report.get("rejected", {})
    if rejected:
        listed = [[str(synapse_id), str(reason)] for synapse_id, reason in rejected.items()]
        tables.append(Table(("synapse id", "reason"), listed, f"{len(rejected)} rejected synapses", is_folded=True))
    caption = "Missing sections per chunk, intensities without the value 0, and synapses with a flag."
    warnings = list(preprocessing_report.get("warnings", ()))
    return Section("Data quality", warnings, [Picture(histograms, caption)], tables, part="appendix")


def describe_sizes(synapse_morphometry: pd.DataFrame, figure: Drawing) -> Section:
    """Tabulate the sizes of the synapses in physical units, with how much the chunk's border cuts off."""
    rows = []
    for name in MORPHOMETRY_LABELS:
        label, unit = column_label(name)
        values = synapse_morphometry[name].astype("float64").dropna()
        if len(values):
            if name.startswith("is_"):
                shown = [f"{100 * values.mean():.0f} % of the synapses", "", ""]
            else:
                shown = [number_text(float(value)) for value in values.quantile([0.5, 0.05, 0.95])]
            rows.append([label, unit, *shown, f"{len(values):,}"])
    n_cut = int(synapse_morphometry["is_cleft_at_border"].sum())
    text = (
        "Sizes off the masks, in physical units; areas are of triangulated surfaces. Everything is measured inside of "
        "the chunk: volumes of both sides, their distance and their contact area are those of the part in it, and of "
        f"{n_cut:,} synapses the chunk's border cuts the cleft."
    )
    caption = "Synapses by their sizes. Black: the median. Values beyond the 99.5th percentile are left out."
    columns = ("size", "unit", "median", "5 %", "95 %", "synapses")
    return Section(
        "Sizes of synapses", [text], [Picture(figure, caption)], [Table(columns, rows, has_numbers=True)], part="data"
    )


def describe_examples(
    synapse_chunks: ChunkStore, obs: pd.DataFrame, config: ReportingConfig, traits: Traits = PUBLISHED_TRAITS
) -> Section:
    """Show synapses drawn at random, good and bad alike."""
    rng = np.random.default_rng(config.seed)
    rows = np.sort(rng.choice(len(obs), size=min(config.n_examples, len(obs)), replace=False))
    chosen = obs.iloc[rows]
    shown = next((trait for trait in traits if trait.level == "neurite" and trait.name in chosen), None)
    types = [""] * len(chosen) if shown is None else class_texts(trait_values(chosen, shown), shown, "type unknown")
    titles = [f"{synapse_id}\n{text}".strip() for synapse_id, text in zip(chosen["synapse_id"], types, strict=True)]
    slabs = read_slabs(synapse_chunks, chosen["synapse_id"].to_numpy())
    figure = contact_sheet(slabs, synapse_chunks.voxel_size_nm, titles, synapse_id_n=chosen["synapse_id"].tolist())
    text = f"{len(rows)} synapses drawn at random, not chosen: what the encoder sees, defects included."
    named = f"Synapse id and {shown.label}" if shown is not None else "Synapse id"
    caption = f"{named}; the section through the widest part of the cleft, with its masks."
    return Section("Examples", [text], [Picture(figure, caption)], part="data")
