"""Parameters of cutting chunks out of volumes, validated."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from synapseclr.parameters import Parameters

Length = Annotated[float, Field(gt=0)]


class PreprocessingConfig(Parameters):
    """Parameters of the ``preprocessing`` pipeline. Defaults: as published for MICrONS layer 2/3."""

    voxel_size_nm: tuple[Length, Length, Length] = Field(
        (8, 8, 40),
        description="Resolution (x, y, z) of the chunks. A volume that has a scale of it is read as it is; others are "
        "resampled from their nearest scale, intensities by means and lines, ids to the nearest voxel.",
    )
    max_resampling: float = Field(
        4.0,
        ge=1,
        description="Largest factor along an axis, in either direction, by which a volume's voxel size may differ from "
        "the chunks'; 1: each needs a scale of exactly their voxel size.",
    )
    position_voxel_size_nm: tuple[Length, Length, Length] | None = Field(
        None, description="Size of one unit of the table's ctr_pos_{x,y,z}_vx; null: the same as voxel_size_nm."
    )
    chunk_size_vx: tuple[int, int, int] = Field((256, 256, 52), description="Voxels of a chunk in x, y, z.")
    max_cleft_distance_nm: float = Field(
        500, gt=0, description="The cleft is the labelled voxel nearest to the centre, at most this far away."
    )
    cleft_match: Literal["proximity", "id", "auto"] = Field(
        "proximity",
        description="Label of the cleft volume that is taken: the nearest one, the one with the synapse's id, or that "
        "where it is near and else the nearest one (auto).",
    )
    cleft: Literal["layer", "painted"] = Field(
        "layer",
        description="Where clefts come from: the cleft volume, or painted at the contact of the two segments that is "
        "nearest to the line between the table's pre- and postsynaptic points, or to its centre; then there need be no "
        "cleft volume.",
    )
    cleft_thickness_nm: float = Field(50, gt=0, description="Thickness of a painted cleft, across.")
    cleft_radius_nm: float = Field(
        150, gt=0, description="A painted cleft is the connected contact within this distance of its centre."
    )
    cutout_zero_fraction: float = Field(
        0.01, ge=0, lt=1, description="A section with a larger share of zero pixels is a cut-out and is zeroed wholly."
    )
    max_rejected_fraction: float = Field(
        0.1, ge=0, le=1, description="The run stops if a larger share of the synapses has to be rejected."
    )
    max_suspect_fraction: float = Field(
        0.5,
        ge=0,
        le=1,
        description="The run stops if a larger share of the synapses lacks a neurite that the table names, or of the "
        "sections is black or constant: on a sample before the first chunk, and over all chunks. A fifth of it warns.",
    )
    check_synapses: int = Field(
        20,
        ge=0,
        description="Synapses that are tried before the first chunk is cut; 0 looks at tables and layers only.",
    )
    synapses_per_shard: int = Field(32, ge=1, description="Synapses in one shard (file) of the chunk store.")
    volume_cache_mb: int = Field(
        256, ge=0, description="Memory per volume and process for decoded blocks that neighbouring synapses share."
    )
    read_attempts: int = Field(
        4, ge=1, description="How often a storage block is tried, with growing pauses; what is missing is not retried."
    )
    fetch_threads: int = Field(
        16, ge=1, description="Blocks fetched at the same time, per process; of local volumes at most one a processor."
    )
    workers: int = Field(
        0, ge=0, description="Processes of dask that cut chunks on this machine; 0: cut in the run's own."
    )
    scheduler_address: str | None = Field(
        None, description="Address of a dask scheduler (tcp://host:8786) whose workers cut the chunks."
    )

    @property
    def position_unit_nm(self) -> tuple[float, float, float]:
        """Size in nm of one unit of the table's positions."""
        return self.position_voxel_size_nm or self.voxel_size_nm

    @property
    def is_distributed(self) -> bool:
        """Tell whether chunks are cut by workers of dask."""
        return bool(self.workers or self.scheduler_address)

    def chunk_parameters(self) -> dict[str, object]:
        """Parameters that determine the chunks, and not only how they are made."""
        shared = {
            "voxel_size_nm",
            "chunk_size_vx",
            "max_cleft_distance_nm",
            "cutout_zero_fraction",
            "synapses_per_shard",
        }
        if self.cleft == "painted":
            shared |= {"cleft", "cleft_thickness_nm", "cleft_radius_nm"}
        elif self.cleft_match != "proximity":  # what was cut before there was a choice stays what it is
            shared |= {"cleft_match"}
        return {"position_unit_nm": self.position_unit_nm, **self.model_dump(include=shared)}
