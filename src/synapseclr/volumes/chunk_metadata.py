"""Metadata of every stored chunk, and of those that could not be stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from synapseclr.volumes.store.chunk_store import ChunkStore
from synapseclr.volumes.store.shards import MASK_CODES
from synapseclr.volumes.synapse_cutter import PAINTED
from synapseclr.volumes.synapse_table import POSITION_COLUMNS, further_columns
from synapseclr.volumes.table_schema import COUNT, ID, ROOT_ID, Column, TableSchema

_INTENSITY_BINS = 64
VOLUME_CODES = {
    "pre_synaptic_volume": MASK_CODES["pre_synaptic_neuron"],
    "post_synaptic_volume": MASK_CODES["post_synaptic_neuron"],
    "synaptic_cleft_volume": MASK_CODES["synaptic_cleft"],
}

MASK_VOLUMES = dict.fromkeys(VOLUME_CODES, Column(rule=("ge", {"min_value": 0})))

SYNAPSE_METADATA = TableSchema(
    "The metadata of the chunks",
    {
        "synapse_id": ID,
        "chunk_index": Column("integer", unique=True, rule=("ge", {"min_value": 0})),
        "pre_root_id": ROOT_ID,
        "post_root_id": ROOT_ID,
        **{f"centre_{axis}_nm": Column() for axis in "xyz"},
        **MASK_VOLUMES,
        "n_cutout_sections": COUNT,
        "n_padded_voxels": COUNT,
        **{name: Column("flag") for name in ("is_padded", "is_pre_missing", "is_post_missing")},
        "is_autapse": Column("flag", optional=True),  # not known of metadata written before
        "cleft_source": Column("text", optional=True),
    },
    key="synapse_id",
    may_be_empty=False,
)

REJECTED_SYNAPSES = TableSchema(
    "The table of rejected synapses", {"synapse_id": ID, "reason": Column("text")}, key="synapse_id"
)


def tabulate_chunks(
    store: ChunkStore, synapses: pd.DataFrame, position_unit_nm: tuple[float, float, float], batch_size: int = 64
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Make the metadata table and the intensity statistics in one pass over the store.

    Args:
        store: The stored chunks.
        synapses: The checked synapse table.
        position_unit_nm: Size of one unit of the table's positions.
        batch_size: Chunks read at a time.

    Returns:
        - One row a chunk, in store order: ``synapse_id, chunk_index, pre_root_id, post_root_id, centre_{x,y,z}_nm``;
            the volumes ``{pre_synaptic,post_synaptic,synaptic_cleft}_volume`` in in-plane voxel cubes (voxel count
            times the axial-to-sagittal ratio); ``cleft_id, n_cutout_sections, n_padded_voxels``; ``cleft_source``:
            ``layer``, ``painted`` (then the id is 0) or ``imported``; the flags ``is_padded, is_pre_missing,
            is_post_missing, is_autapse``. Of an autapse, both sides are one neurite, whose mask has the presynaptic
            code; neither side is missing if it is there. Then the further columns of the synapse table.
        - Intensity and cut-out statistics for the report, JSON-ready.
    """
    from synapseclr.volumes.voxel_loops import count_constant_sections

    voxels: dict[str, list[np.ndarray]] = {name: [] for name in VOLUME_CODES}
    histogram = np.zeros(256, dtype=np.int64)
    n_constant = n_with_tissue = 0
    for chunk_ncxyz in store.iterate(batch_size):
        for name, code in VOLUME_CODES.items():
            voxels[name].append((chunk_ncxyz[:, 1] == code).sum(axis=(1, 2, 3)))
        histogram += np.bincount(chunk_ncxyz[:, 0].ravel(), minlength=256)
        for chunk_cxyz in chunk_ncxyz:
            constant, black = count_constant_sections(chunk_cxyz[0])
            n_constant += int(constant)
            n_with_tissue += chunk_cxyz.shape[-1] - int(black)

    rows = synapses.set_index("id").loc[store.synapse_id]
    table = pd.DataFrame({"synapse_id": store.synapse_id, "chunk_index": np.arange(len(store))})
    for name in ("pre_root_id", "post_root_id"):
        table[name] = rows[name].to_numpy()
    for column, unit_nm, axis in zip(POSITION_COLUMNS, position_unit_nm, "xyz", strict=True):
        table[f"centre_{axis}_nm"] = rows[column].to_numpy() * unit_nm
    for name in VOLUME_CODES:
        table[name] = np.concatenate(voxels[name]) * store.axial_to_sagittal_spacing
    for name in ("cleft_id", "n_cutout_sections", "n_padded_voxels"):
        table[name] = store.records[name]
    is_painted, is_known = table["cleft_id"] == PAINTED, table["cleft_id"] != 0
    table["cleft_source"] = np.where(is_painted, "painted", np.where(is_known, "layer", "imported")).astype(object)
    table["cleft_id"] = table["cleft_id"].mask(is_painted, np.uint64(0))
    table["is_padded"] = table["n_padded_voxels"] > 0
    table["is_pre_missing"] = table["pre_synaptic_volume"] == 0
    table["is_autapse"] = (table["pre_root_id"] == table["post_root_id"]) & (table["pre_root_id"] != 0)
    table["is_post_missing"] = (table["post_synaptic_volume"] == 0) & (table["is_pre_missing"] | ~table["is_autapse"])
    further = further_columns(rows, table.columns)
    table = pd.concat([table, further.reset_index(drop=True)], axis=1)
    n_cutout = int(table["n_cutout_sections"].sum())  # black, and inside of the volume
    sections = {"n": n_constant + n_cutout, "of": n_with_tissue + n_cutout}
    return table, _statistics(histogram, table) | {"constant_sections": sections}


def tabulate_rejected(store: ChunkStore) -> pd.DataFrame:
    """List the synapses that have no chunk: ``synapse_id`` (int64) and ``reason``, in cutting order."""
    return pd.DataFrame(
        {
            "synapse_id": np.asarray(list(store.rejected), np.int64),
            "reason": pd.Series(list(store.rejected.values()), dtype="str"),
        }
    )


def _statistics(histogram: np.ndarray, table: pd.DataFrame) -> dict[str, Any]:
    """Intensity figures leave out the value 0, which marks cut-outs and padding."""
    levels = np.arange(256)
    counts = histogram.copy()
    counts[0] = 0
    mean = float((counts * levels).sum() / max(counts.sum(), 1))
    std = float(np.sqrt((counts * (levels - mean) ** 2).sum() / max(counts.sum(), 1)))
    sections = table["n_cutout_sections"].value_counts().sort_index()
    return {
        "intensity": {
            "mean": mean / 255,
            "std": std / 255,
            "zero_fraction": float(histogram[0] / max(histogram.sum(), 1)),
            "histogram": counts.reshape(_INTENSITY_BINS, -1).sum(axis=1).tolist(),
        },
        "cutout_sections": {str(number): int(count) for number, count in sections.items()},
    }


def summarise(
    store: ChunkStore,
    synapses: pd.DataFrame,
    metadata: pd.DataFrame,
    statistics: dict[str, Any],
    unknown_ids: list[int],
) -> dict[str, Any]:
    """Assemble the preprocessing report: counts, histograms, and what was dropped and why. JSON-ready."""
    n_painted = int((metadata["cleft_source"] == "painted").sum())
    return {
        "n_synapses_in_table": len(synapses),
        "n_synapses_without_files": int((~synapses["id"].isin([*store.synapse_id, *store.rejected])).sum()),
        "n_chunks": len(store),
        "n_rejected": len(store.rejected),
        "rejected": {str(synapse_id): reason for synapse_id, reason in store.rejected.items()},
        "n_padded": int(metadata["is_padded"].sum()),
        "n_pre_missing": int(metadata["is_pre_missing"].sum()),
        "n_post_missing": int(metadata["is_post_missing"].sum()),
        "n_autapses": int(metadata["is_autapse"].sum()),
        **({"n_painted": n_painted} if n_painted else {}),
        "n_neurites": int(pd.concat([metadata["pre_root_id"], metadata["post_root_id"]]).nunique()),
        "n_annotations_of_unknown_synapses": len(unknown_ids),
        "annotations_of_unknown_synapses": unknown_ids,
        "chunk_size_vx": list(store.chunk_size_vx),
        "voxel_size_nm": list(store.voxel_size_nm),
        **statistics,
    }
