"""Imaging style: how the same tissue looks under another microscope and another stain."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

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


class ImagingStyle(BaseModel):
    """Microscope and stain of a simulated volume; the tissue itself does not depend on them.

    A preset sets all fields; those that are given beside it take precedence. The voxel size, which belongs to a style
    too, is `voxel_size_nm` of the simulation.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

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
