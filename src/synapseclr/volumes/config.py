"""How chunks are cut out of volumes, as validated parameters."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Length = Annotated[float, Field(gt=0)]


class PreprocessingConfig(BaseModel):
    """Parameters of the ``preprocessing`` pipeline. Defaults: as published for MICrONS layer 2/3."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    voxel_size_nm: tuple[Length, Length, Length] = Field(
        (8, 8, 40),
        description="Resolution (x, y, z) at which all three volumes are read; a scale of each must have it.",
    )
    position_voxel_size_nm: tuple[Length, Length, Length] | None = Field(
        None, description="Size of one unit of the table's ctr_pos_{x,y,z}_vx; null: the same as voxel_size_nm."
    )
    chunk_size_vx: tuple[int, int, int] = Field((256, 256, 52), description="Voxels of a chunk in x, y, z.")
    max_cleft_distance_nm: float = Field(
        500, gt=0, description="The cleft is the labelled voxel nearest to the centre, at most this far away."
    )
    cutout_zero_fraction: float = Field(
        0.01, ge=0, lt=1, description="A section with a larger share of zero pixels is a cut-out and is zeroed wholly."
    )
    max_rejected_fraction: float = Field(
        0.1, ge=0, le=1, description="The run stops if a larger share of the synapses has to be rejected."
    )
    synapses_per_shard: int = Field(32, ge=1, description="Synapses in one shard (file) of the chunk store.")
    volume_cache_mb: int = Field(
        256, ge=0, description="Memory per volume for blocks that neighbouring synapses share."
    )

    @property
    def position_unit_nm(self) -> tuple[float, float, float]:
        """Size in nm of one unit of the table's positions."""
        return self.position_voxel_size_nm or self.voxel_size_nm
