"""Everything that a volume is made of, chosen by one immutable set of parameters, and the look of its images."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from synapseclr.parameters import Parameters
from synapseclr.simulation.embeddings import EmbeddingSimulationConfig

PRESETS: dict[str, dict[str, float]] = {
    "default": {},
    # Serial block-face scanning: soft, low contrast, grainy, hardly any change from section to section.
    "A": {
        "contrast": 0.75,
        "brightness": 14.0,
        "membrane_stain": 0.9,
        "density_stain": 0.85,
        "organelle_stain": 0.85,
        "membrane_width_nm": 14.0,
        "blur_nm": 13.0,
        "pixel_noise_sd": 12.0,
        "section_gain_sd": 0.02,
        "section_offset_sd": 2.0,
    },
    # Transmission on tape: sharp, contrasty, little noise, sections of uneven thickness and exposure.
    "B": {
        "contrast": 1.25,
        "brightness": -8.0,
        "membrane_stain": 1.15,
        "membrane_width_nm": 12.0,
        "blur_nm": 7.0,
        "pixel_noise_sd": 5.0,
        "texture_sd": 11.0,
        "section_gain_sd": 0.1,
        "section_offset_sd": 10.0,
    },
    # Scanning of sections with a heavy stain of proteins: dark cytoplasm, thin pale membranes, very dark organelles.
    "C": {
        "contrast": 1.0,
        "brightness": -34.0,
        "membrane_stain": 0.75,
        "density_stain": 1.05,
        "organelle_stain": 1.3,
        "membrane_width_nm": 9.5,
        "blur_nm": 9.0,
        "pixel_noise_sd": 14.0,
        "texture_sd": 13.0,
        "section_gain_sd": 0.06,
        "section_offset_sd": 6.0,
    },
}


class ImagingStyle(Parameters):
    """Microscope and stain of a simulated volume; the tissue itself does not depend on them.

    A preset sets all fields; those that are given beside it take precedence. The voxel size, which belongs to a style
    too, is `voxel_size_nm` of the simulation.
    """

    preset: Literal["default", "A", "B", "C"] = Field(
        "default",
        description="Named style: default; A: soft, low contrast, even sections (block-face scanning); B: sharp, high "
        "contrast, uneven sections (transmission); C: dark cytoplasm, pale membranes, dark organelles (heavy stain).",
    )
    contrast: float = Field(1.0, gt=0, le=3, description="Factor on grey levels, about 128.")
    brightness: float = Field(0.0, ge=-80, le=80, description="Added to all grey levels.")
    membrane_stain: float = Field(
        1.0,
        ge=0,
        le=2,
        description="Darkness of membranes, vesicles and tubules relative to the cytoplasm; 1: default.",
    )
    density_stain: float = Field(1.0, ge=0, le=1.5, description="Darkness of synaptic densities; 1: default.")
    organelle_stain: float = Field(1.0, ge=0, le=1.6, description="Darkness of mitochondria; 1: default.")
    membrane_width_nm: float = Field(
        12.5, gt=0, le=40, description="Distance from a border at which the membrane's darkness has fallen to 1/e, nm."
    )
    blur_nm: float = Field(9.6, ge=0, le=60, description="Gaussian blur within a section, standard deviation, nm.")
    pixel_noise_sd: float = Field(9.0, ge=0, le=60, description="Standard deviation of pixel noise, grey levels.")
    texture_sd: float = Field(9.0, ge=0, le=60, description="Standard deviation of cytoplasm texture, grey levels.")
    section_gain_sd: float = Field(0.05, ge=0, le=0.3, description="Standard deviation of section contrast, relative.")
    section_offset_sd: float = Field(5.0, ge=0, le=40, description="Standard deviation of section brightness, grey.")

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        """Take what is not given from the preset; an unknown preset is left for its field to refuse."""
        if not isinstance(given, dict):
            return given
        return PRESETS.get(str(given.get("preset", "default")), {}) | given


class SimulationConfig(Parameters):
    """Parameters of a simulated, segmented 3D electron-microscopy volume with known truth.

    The defaults give about 11.3 x 11.3 x 5.2 um of neuropil with roughly one synapse per cubic micrometre, the density
    of mouse cortex. Lengths are in nanometres and volumes in voxels unless a field says otherwise.
    """

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
    embeddings: EmbeddingSimulationConfig = Field(
        EmbeddingSimulationConfig(), description="Embeddings without images, by the pipeline simulated_embeddings."
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
