"""The report's sections on examples, training and data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synapseclr.analysis.config import ReportingConfig
from synapseclr.analysis.traits import trait_named
from synapseclr.pipelines.pretraining.nodes import draw_augmented_pairs
from synapseclr.pipelines.similarity.slabs import read_slabs
from synapseclr.plotting.histograms import preprocessing_histograms
from synapseclr.plotting.report import Picture, Section, Table
from synapseclr.plotting.sections import contact_sheet
from synapseclr.plotting.training import training_figure
from synapseclr.training import PretrainingConfig

if TYPE_CHECKING:
    from synapseclr.volumes import ChunkStore

_COUNTS = {
    "n_synapses_in_table": "synapses in the table",
    "n_synapses_without_files": "of these without files",
    "n_chunks": "chunks",
    "n_rejected": "rejected",
    "n_padded": "padded at the volume's edge",
    "n_pre_missing": "without presynaptic mask",
    "n_post_missing": "without postsynaptic mask",
    "n_autapses": "autapses: both root ids are the same",
    "n_neurites": "neurites",
    "n_annotations_of_unknown_synapses": "annotations of unknown synapses",
    "chunk_size_vx": "chunk size (voxels)",
    "voxel_size_nm": "voxel size (nm)",
}


def describe_examples(synapse_chunks: ChunkStore, obs: pd.DataFrame, config: ReportingConfig) -> Section:
    """Synapses drawn at random, good and bad alike."""
    rng = np.random.default_rng(config.seed)
    rows = np.sort(rng.choice(len(obs), size=min(config.n_examples, len(obs)), replace=False))
    chosen = obs.iloc[rows]
    titles = [_example_title(row) for _, row in chosen.iterrows()]
    slabs = read_slabs(synapse_chunks, chosen["synapse_id"].to_numpy())
    figure = contact_sheet(slabs, synapse_chunks.voxel_size_nm, titles)
    text = f"{len(rows)} synapses drawn at random, not chosen: what the encoder sees, defects included."
    caption = "Synapse id and presynaptic type; the section through the widest part of the cleft, with its masks."
    return Section("Examples", [text], [Picture(figure, caption)])


def _example_title(row: pd.Series) -> str:
    kind = row.get("pre_cell_type", np.nan)
    name = "type unknown" if pd.isna(kind) else trait_named("pre_cell_type").class_names[int(kind)]
    return f"{row['synapse_id']}\n{name}"


def describe_views(synapse_chunks: ChunkStore, config: PretrainingConfig) -> Section:
    """What the network sees."""
    text = (
        "Sixteen synapses drawn at random, each with two random views. Training pulls the two views of a synapse "
        "together and pushes those of others apart, so the encoder learns what the views have in common."
    )
    caption = "The section with most cleft of the chunk and of each view."
    if config.positives.kind == "same_neurite":
        caption += " Both views are of the synapse itself; training also pairs it with others of its neurites."
    if config.augmentation.channel_organization == "separate":
        caption += " Views: presynaptic side magenta, postsynaptic side green, what both channels hold grey."
    return Section("What the network sees", [text], [Picture(draw_augmented_pairs(synapse_chunks, config), caption)])


def describe_training(training_history: pd.DataFrame) -> Section:
    """How the training went."""
    if training_history.empty:
        return Section("Training", ["The weights or features were made elsewhere: there is no history of a training."])
    last = training_history.iloc[-1]
    known = {"train_loss": "training loss", "validation_loss": "validation loss", "effective_rank": "effective rank"}
    ends = [f"{label} {last[name]:.3g}" for name, label in known.items() if name in training_history]
    text = f"After {training_history['epoch'].nunique()} epochs: {', '.join(ends)}."
    caption = "Loss with learning rate, the k-NN probe on annotated synapses, and the effective rank of the features."
    return Section("Training", [text], [Picture(training_figure(training_history), caption)])


def describe_data(preprocessing_report: Mapping[str, Any]) -> Section:
    """What preprocessing found, dropped and why."""
    rows = [
        [label, as_text(preprocessing_report[key])] for key, label in _COUNTS.items() if key in preprocessing_report
    ]
    tables = [Table(("data", "value"), rows)]
    shares = preprocessing_report.get("suspect", {})
    if shares:
        listed = [[share["label"], f"{share['n']:,}", f"{share['of']:,}"] for share in shares.values()]
        tables.append(Table(("what table and volumes may disagree on", "found", "of"), listed, has_numbers=True))
    rejected = preprocessing_report.get("rejected", {})
    if rejected:
        listed = [[str(synapse_id), str(reason)] for synapse_id, reason in rejected.items()]
        tables.append(Table(("synapse id", "reason"), listed, f"{len(rejected)} rejected synapses", is_folded=True))
    caption = "Cut-out sections per chunk, intensities without the value 0, and synapses with a flag."
    warnings = list(preprocessing_report.get("warnings", ()))
    return Section(
        "Data quality",
        warnings,
        pictures=[Picture(preprocessing_histograms(preprocessing_report), caption)],
        tables=tables,
    )


def as_text(value: Any) -> str:
    """A value for a table: sizes as "a x b x c", integers with thousands set apart."""
    if isinstance(value, list | tuple):
        return " x ".join(str(item) for item in value) if len(value) == 3 else ", ".join(str(item) for item in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
