"""What to simulate: one validated, immutable set of parameters."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from synapseclr.simulation.style import ImagingStyle


class SimulationConfig(BaseModel):
    """Parameters of a simulated, segmented 3D electron-microscopy volume with known truth.

    The defaults give about 11.3 x 11.3 x 5.2 um of neuropil with roughly one synapse per cubic micrometre, the density
    of mouse cortex. Lengths are in nanometres and volumes in voxels unless a field says otherwise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(
        0, ge=0, description="Seed of every random draw; the same seed gives the same volume, bit by bit."
    )
    voxel_size_nm: tuple[float, float, float] = Field((16.0, 16.0, 40.0), description="Voxel size (x, y, z) in nm.")
    shape_vx: tuple[int, int, int] = Field((704, 704, 130), description="Volume shape (x, y, z) in voxels.")

    signature: Literal["darkness", "texture"] = Field(
        "darkness",
        description="Where cell types show: in thickness and darkness of the densities, spines and calibre (darkness), "
        "or only in arrangement and shape, with equal amounts of everything (texture).",
    )
    style: ImagingStyle = Field(ImagingStyle(), description="Microscope and stain.")
    n_dendrites: int = Field(58, ge=2, le=2000, description="Number of dendrites that cross the volume.")
    n_fillers: int = Field(530, ge=0, le=20000, description="Number of thin neurites without synapses.")
    fraction_inhibitory_dendrites: float = Field(0.4, ge=0, le=1, description="Share of dendrites of inhibitory cells.")
    fraction_inhibitory_axons: float = Field(0.4, ge=0, le=1, description="Expected share of inhibitory axons.")
    spine_density_per_um: float = Field(1.6, ge=0, le=5, description="Spines per um of excitatory dendrite, at most.")
    shaft_density_excitatory_per_um: float = Field(
        0.8, ge=0, le=5, description="Shaft synapses per um of excitatory dendrite, at most."
    )
    shaft_density_inhibitory_per_um: float = Field(
        2.0, ge=0, le=5, description="Shaft synapses per um of inhibitory dendrite, at most."
    )
    synapses_per_axon: tuple[int, int] = Field((4, 12), description="Smallest and largest synapse number of an axon.")
    site_margin_nm: float = Field(660.0, ge=0, description="No synapse is placed closer to a face of the volume, nm.")

    cleft_area_median_um2: float = Field(0.055, gt=0, le=0.5, description="Median cleft area, um^2 (lognormal).")
    cleft_area_log_sd: float = Field(0.55, ge=0, le=1.5, description="Standard deviation of log cleft area.")
    mito_probability_bouton: float = Field(0.4, ge=0, le=1, description="Chance that a bouton holds a mitochondrion.")
    trait_radius_nm: float = Field(600.0, gt=0, description="Mitochondria count within this distance of a synapse, nm.")

    annotated_fraction: float = Field(0.7, ge=0, le=1, description="Share of synapses in the annotation table.")
    missing_annotation_fraction: float = Field(0.05, ge=0, lt=1, description="Share of annotation cells that are NaN.")
    defect_fraction: float = Field(0.04, ge=0, le=0.5, description="Share of synapses with a marked defect.")
    centre_jitter_nm: float = Field(30.0, ge=0, le=100, description="Standard deviation of table positions, nm.")

    cutout_section_fraction: float = Field(
        0.05, ge=0, le=0.5, description="Share of sections with a black rectangle; a quarter of them are wholly black."
    )

    @classmethod
    def small(cls, **changes: object) -> SimulationConfig:
        """A volume of a few cubic micrometres that is simulated in about two seconds.

        Args:
            **changes: Fields that differ from the small preset.

        Returns:
            The configuration: 224 x 224 x 72 voxels and one to four dozen synapses.
        """
        preset: dict[str, object] = {
            "shape_vx": (224, 224, 72),
            "n_dendrites": 8,
            "n_fillers": 60,
            "synapses_per_axon": (2, 8),
            "site_margin_nm": 400.0,
        }
        return cls.model_validate(preset | changes)

    @property
    def extent_nm(self) -> tuple[float, float, float]:
        """Edge lengths (x, y, z) of the volume in nm."""
        (x, y, z), (vx, vy, vz) = self.shape_vx, self.voxel_size_nm
        return x * vx, y * vy, z * vz
