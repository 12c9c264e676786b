"""Configuration of an augmenter: a list of operations, and the published parameters under their published names."""

import pkgutil
from collections.abc import Iterator, Mapping
from importlib import import_module
from itertools import chain
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from synapseclr.parameters import Parameters

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Fraction = Annotated[float, Field(gt=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=0, le=16)]
Voxels = Annotated[int, Field(ge=1)]
MAX_RADIUS = 127
Radii = Annotated[tuple[Annotated[int, Field(ge=0, le=MAX_RADIUS)], ...], Field(min_length=1)]

OPERATIONS = (
    "rotation",
    "displacement",
    "flips",
    "resampling",
    "section_cutout",
    "sectional_intensity",
    "global_intensity",
    "pixel_noise",
    "gaussian_blur",
    "swiss_cheese",
    "corner_cutout",
    "random_cutout",
    "periphery_cutout",
    "active_zone",
    "z_score",
)
"""The published operations in the order in which a view needs them: the chunk is resampled before voxels change."""

PUBLISHED_OPERATIONS = (
    "section_cutout",
    "sectional_intensity",
    "global_intensity",
    "pixel_noise",
    "rotation",
    "displacement",
    "published_resampling",
    "gaussian_blur",
    "swiss_cheese",
    "corner_cutout",
    "random_cutout",
    "periphery_cutout",
    "flips",
    "published_active_zone",
    "z_score",
)
"""The order of the published code, which changes the chunk at full resolution before it resamples it."""

_FOLDER = "synapseclr.augmentation.operations"
# Fields that take an operation off the list, where they are not enable_<operation>.
_SWITCHES = {
    "flips": ("enable_x_flip", "enable_y_flip", "enable_z_flip", "enable_xy_swap"),
    "periphery_cutout": ("enable_random_periphery_cutout",),
    "resampling": (),
    "z_score": (),
    "published_resampling": (),
    "published_active_zone": (),  # separates the channels also where the zone is off
}
_BEFORE_RESAMPLING = ("rotation", "displacement", "magnification")


class AugmentationConfig(Parameters):
    """Parameters of the random views; the defaults are the published SO(3) pretraining values.

    ``operations`` lists what is done, in order. An entry is the name of an operation, whose parameters are then the
    fields of this class, or ``{name: {parameter: value}}``; an operation of your own is named by its place,
    ``my_package.my_module.MyOperation``. A switch ``enable_<operation>: false`` leaves out what is listed.

    Lengths are in output voxels (the pitch of ``final_img_size``) except ``final_crop_size``, which is in input voxels
    along x. ``batch_mode="coupled"`` draws once per view and shares over the batch, ``"decoupled"`` draws per sample.
    ``fidelity="published"`` reproduces the published code with its errors (for parity with its weights);
    ``"corrected"`` does what it meant. ``background`` sets what masked voxels hold under ``corrected``: ``"black"``
    is intensity 0 (-1.571 after z-scoring, as published), ``"mean"`` is ``intensity_mean`` (0 after z-scoring).

    Source: Wilson & Babadi 2022, doi:10.1101/2022.06.07.495207, and the configurations of its repository.
    """

    operations: tuple[str | dict[str, dict[str, Any] | None], ...] = OPERATIONS
    fidelity: Literal["corrected", "published"] = "corrected"
    batch_mode: Literal["coupled", "decoupled"] = "coupled"
    channel_organization: Literal["merged", "separate"] = "merged"
    background: Literal["black", "mean"] = "black"

    norm_scale: Positive = 255.0
    intensity_mean: float = 0.44
    intensity_std: Positive = 0.28
    axial_to_sagittal_spacing: Positive = 5.0
    final_crop_size: Voxels = 192
    final_img_size: Annotated[int, Field(ge=2)] = 96

    enable_section_cutout: bool = True
    section_cutout_prob: Probability = 0.5
    cutout_poisson_rate: NonNegative = 10.0

    enable_sectional_intensity: bool = True
    sectional_intensity_intercept_min: float = -0.05
    sectional_intensity_intercept_max: float = 0.05
    sectional_intensity_slope_min: NonNegative = 0.9
    sectional_intensity_slope_max: NonNegative = 1.1
    sectional_intensity_gamma_min: Positive = 0.9
    sectional_intensity_gamma_max: Positive = 1.1

    enable_global_intensity: bool = True
    global_intensity_intercept_min: float = -0.05
    global_intensity_intercept_max: float = 0.05
    global_intensity_slope_min: NonNegative = 0.9
    global_intensity_slope_max: NonNegative = 1.1
    global_intensity_gamma_min: Positive = 0.9
    global_intensity_gamma_max: Positive = 1.1

    enable_pixel_noise: bool = True
    global_additive_gaussian_noise_scale_min: NonNegative = 0.0
    global_additive_gaussian_noise_scale_max: NonNegative = 0.05
    global_multiplicative_lognormal_noise_scale_min: NonNegative = 0.0
    global_multiplicative_lognormal_noise_scale_max: NonNegative = 0.05

    enable_gaussian_blur: bool = True
    gaussian_blur_prob: Probability = 0.5
    gaussian_blur_sigmas: tuple[Positive, ...] = (0.25, 0.5, 0.75)

    enable_swiss_cheese: bool = False
    swiss_cheese_max_vol_fraction: Probability = 0.3
    swiss_cheese_radii: tuple[Voxels, ...] = (5, 7, 9)

    enable_corner_cutout: bool = True
    corner_cutout_prob: Probability = 0.5
    n_corner_cutout_applications: Count = 1
    preserve_center_unmasked: bool = True

    enable_random_cutout: bool = True
    random_cutout_prob: Probability = 0.25
    n_random_cutout_applications: Count = 2
    cutout_size_min: Voxels = 12
    cutout_size_max: Voxels = 36

    enable_random_periphery_cutout: bool = True
    random_periphery_cutout_prob: Probability = 0.25
    periphery_cutout_center_max_displacement_fraction: Fraction = 0.2
    periphery_cutout_center_fraction_min: Fraction = 0.5
    periphery_cutout_center_fraction_max: Fraction = 0.75

    enable_rotation: bool = True
    enable_displacement: bool = True
    global_max_relative_displacement: NonNegative = 0.2

    enable_x_flip: bool = True
    enable_y_flip: bool = True
    enable_z_flip: bool = True
    enable_xy_swap: bool = True

    enable_active_zone: bool = True
    connectivity: Literal[0, 6, 18, 26] = 26
    active_zone_inflation_radii: tuple[Annotated[int, Field(ge=0, le=MAX_RADIUS)], ...] = (1, 2, 3, 4, 5, 6, 7, 8, 9)

    @field_validator("gaussian_blur_sigmas", "swiss_cheese_radii", "active_zone_inflation_radii")
    @classmethod
    def _not_empty(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value:
            raise ValueError("must list at least one value; switch the operation off with its enable_* field instead")
        return value

    @field_validator("operations")
    @classmethod
    def _known_and_in_order(
        cls, entries: tuple[str | dict[str, dict[str, Any] | None], ...]
    ) -> tuple[str | dict[str, dict[str, Any] | None], ...]:
        names = [_name_and_parameters(entry)[0] for entry in entries]
        for name in names:
            if name not in OPERATIONS:
                find_operation(name)
        if names.count("resampling") != 1 or names[-1:] != ["z_score"]:
            raise ValueError(f"must hold 'resampling' once and end with 'z_score', found {names}")
        resampled = names.index("resampling")
        late = [name for name in _BEFORE_RESAMPLING if name in names[resampled:]]
        early = [name for name in names[:resampled] if name in OPERATIONS[4:]]
        if late or early:
            raise ValueError(
                f"{', '.join(late + early)} stands on the wrong side of 'resampling': rotation, displacement and "
                "magnification place the image in the chunk, before; everything that changes voxels comes after it"
            )
        return entries

    @model_validator(mode="after")
    def _check_across_fields(self) -> Self:
        check_ranges(self)
        size = self.final_img_size
        if self.final_crop_size % 2:
            raise ValueError(
                f"final_crop_size must be even so that the crop has a centre, found {self.final_crop_size}"
            )
        if self.enable_random_cutout and self.n_random_cutout_applications and self.cutout_size_max >= size:
            raise ValueError(
                f"cutout_size_max ({self.cutout_size_max}) must be below final_img_size ({size}): random cut-outs are "
                "in output voxels; scale them with the image, for example with AugmentationConfig.resized"
            )
        if self.enable_corner_cutout and self.fidelity == "published" and size % 4:
            raise ValueError(f"published corner cut-outs need a final_img_size divisible by 4, found {size}")
        if self.enable_random_periphery_cutout:
            half_min = int(0.5 * size * self.periphery_cutout_center_fraction_min)
            half_max = int(0.5 * size * self.periphery_cutout_center_fraction_max)
            if half_max <= half_min or int(0.5 * size * self.periphery_cutout_center_max_displacement_fraction) < 1:
                raise ValueError(
                    f"the periphery cut-out has no room at final_img_size {size}: widen its centre fractions "
                    "(periphery_cutout_center_*), or set enable_random_periphery_cutout: false"
                )
        return self

    def listed_operations(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Names and own parameters of the operations that are on, in their order.

        Raises:
            ValueError: If the published code is to be reproduced and the list holds what it has not.
        """
        listed = dict(map(_name_and_parameters, self.operations))
        if self.fidelity == "corrected":
            chosen = [_name_and_parameters(entry) for entry in self.operations]
        else:
            others = [name for name in listed if name not in OPERATIONS]
            if others:
                raise ValueError(
                    f"fidelity 'published' reproduces the published operations, which {', '.join(others)} are not: "
                    "take them off the list, or set fidelity: corrected"
                )
            published = [(name, name.removeprefix("published_")) for name in PUBLISHED_OPERATIONS]
            chosen = [(name, listed[plain]) for name, plain in published if plain in listed]
        for name, given in chosen:
            switches = _SWITCHES.get(name, (f"enable_{name}",) if f"enable_{name}" in type(self).model_fields else ())
            if not switches or any(getattr(self, switch) for switch in switches):
                yield name, given

    @classmethod
    def so3(cls, **overrides: Any) -> Self:
        """Published pretraining: random rotations, flips and every masking operation but the ball holes."""
        return cls(**overrides)

    @classmethod
    def dihedral(cls, **overrides: Any) -> Self:
        """SO(3) without the rotation: only flips and the xy swap move the orientation of the cleft plane."""
        return cls(**({"enable_rotation": False} | overrides))

    @classmethod
    def extract(cls, **overrides: Any) -> Self:
        """Configuration of embeddings: resampling, active zone of radius 3, z-score; nothing random."""
        return cls(**(cls._nothing_random() | {"active_zone_inflation_radii": (3,)} | overrides))

    @classmethod
    def display(cls, **overrides: Any) -> Self:
        """Configuration of pictures: the crop at full resolution, no active zone, intensities left in [0, 1]."""
        settings: dict[str, Any] = {"final_img_size": 192, "intensity_mean": 0.0, "intensity_std": 1.0}
        settings |= {"enable_active_zone": False, "active_zone_inflation_radii": (0,)}
        return cls(**(cls._nothing_random() | settings | overrides))

    @classmethod
    def _nothing_random(cls) -> dict[str, Any]:
        """Switches of all operations that draw random numbers, off."""
        return {name: False for name in cls.model_fields if name.startswith("enable_") and name != "enable_active_zone"}

    def replaced(self, **changes: Any) -> Self:
        """A validated copy with some fields changed."""
        return type(self)(**(self.model_dump() | changes))

    def for_extraction(self, radius: int | None = None) -> Self:
        """The extraction configuration of this pretraining one: same sizes and z-score, nothing random.

        Args:
            radius: Active zone inflation in output voxels. Default: the same length as the published 3 voxels of an
                image of 96 a side, at least 1.
        """
        if radius is None:
            radius = max(1, round(3 * self.final_img_size / 96))
        entries = tuple(entry for entry in self.operations if not _is_random_addition(entry))
        return self.replaced(**self._nothing_random(), operations=entries, active_zone_inflation_radii=(radius,))

    def resized(self, final_crop_size: int, final_img_size: int, **changes: Any) -> Self:
        """A copy for another image size, with every length in output voxels scaled in proportion."""
        ratio = final_img_size / self.final_img_size

        def scaled(lengths: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(sorted({max(1, round(length * ratio)) if length else 0 for length in lengths}))

        settings = {
            "final_crop_size": final_crop_size,
            "final_img_size": final_img_size,
            "cutout_size_min": max(1, round(self.cutout_size_min * ratio)),
            "cutout_size_max": max(1, round(self.cutout_size_max * ratio)),
            "swiss_cheese_radii": scaled(self.swiss_cheese_radii),
            "active_zone_inflation_radii": scaled(self.active_zone_inflation_radii),
        }
        return self.replaced(**(settings | changes))


def _name_and_parameters(entry: str | Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Name and parameters of an entry of a list of operations."""
    if isinstance(entry, str):
        return entry, {}
    if len(entry) != 1:
        raise ValueError(f"an operation with parameters is {{name: {{parameter: value}}}}, found {dict(entry)}")
    ((name, given),) = entry.items()
    return name, given or {}


def _is_random_addition(entry: str | Mapping[str, Any]) -> bool:
    """Tell whether an entry is an operation beside the published ones that draws random numbers."""
    name, _ = _name_and_parameters(entry)
    return name not in OPERATIONS and bool(find_operation(name).random)


def check_ranges(parameters: BaseModel) -> None:
    """Refuse a ``*_min`` above its ``*_max``.

    Raises:
        ValueError: If one is.
    """
    for name in type(parameters).model_fields:
        family = name.removesuffix("_min")
        if family != name and (low := getattr(parameters, name)) > (high := getattr(parameters, f"{family}_max")):
            raise ValueError(f"{name} ({low}) is above {family}_max ({high})")


def find_operation(name: str) -> type[Any]:
    """Load the class of an operation.

    Args:
        name: Of an operation in a file of ``operations/``, or a class elsewhere, ``my_package.my_module.MyOperation``.

    Returns:
        A subclass of ``Operation``. Loading it imports torch.

    Raises:
        ValueError: If there is none.
    """
    module_name, _, last = name.rpartition(".")
    ours = [f"{_FOLDER}.{found.name}" for found in pkgutil.iter_modules(import_module(_FOLDER).__path__)]
    try:
        found = _classes_with_apply(module_name) if module_name else list(chain(*map(_classes_with_apply, ours)))
    except ModuleNotFoundError as error:
        raise ValueError(f"there is no operation '{name}': {error}") from error
    known = {kind.__name__ if module_name else getattr(kind, "name", ""): kind for kind in found}
    if last not in known and module_name:
        raise ValueError(f"{module_name} has no subclass of Operation named '{last}'")
    if last not in known:
        listed = sorted(each for each in known if each and not each.startswith("published_"))
        raise ValueError(
            f"there is no operation '{name}'. The operations are: {', '.join(listed)}; one of your own is named by its "
            "place, my_package.my_module.MyOperation"
        )
    return known[last]


def _classes_with_apply(module: str) -> list[type[Any]]:
    return [each for each in vars(import_module(module)).values() if isinstance(each, type) and hasattr(each, "apply")]
