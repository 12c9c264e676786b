"""Annotated traits: the declaration of each one, the published nine, and their values in a table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, model_validator

from synapseclr.errors import TableError

Metric = Literal["roc_auc", "macro_auc", "explained_variance"]
Kind = Literal["binary", "multiclass", "continuous", "zero_inflated", "count"]
Transform = Literal["none", "zscore", "log1p_zscore", "is_positive"]

PUBLISHED = "published"
"""Entry of the list of traits that stands for the published nine."""

_TRANSFORM_OF: dict[str, Transform] = {"continuous": "zscore", "zero_inflated": "log1p_zscore", "count": "log1p_zscore"}
_SCALE_LABELS = {"none": "as annotated", "zscore": "z-score", "log1p_zscore": "z-score of the logarithm"}
_SIDES = ("pre", "post")
SIDE_NAMES = {"pre": "presynaptic", "post": "postsynaptic"}
_UNIT_ENDING = re.compile(r"_(nm[23]?|um[23]?|deg|vx)$")


def readable_name(name: str) -> tuple[str, str]:
    """Words for a column that nobody gave a label: the side first, counts as numbers of things, the unit apart.

    Args:
        name: Name of the column.

    Returns:
        The words, and the unit at the end of the name; empty without one.

    >>> readable_name("n_vesicles_pre"), readable_name("post_spine_volume_um3"), readable_name("is_odd")
    (('number of presynaptic vesicles', ''), ('postsynaptic spine volume', 'um3'), ('odd', ''))
    """
    found = _UNIT_ENDING.search(name)
    words = (name[: found.start()] if found else name).strip("_").split("_")
    is_count = len(words) > 1 and words[0] == "n"
    words = words[1:] if len(words) > 1 and words[0] in ("n", "is", "has") else words
    sides = [word for word in words if word in _SIDES]
    if len(sides) == 1 and words[-1] in _SIDES:
        words = [*words[-1:], *words[:-1]]
    spelt = " ".join(SIDE_NAMES.get(word, word) for word in words if word)
    return ("number of " * is_count + spelt) or name, found.group(1) if found else ""


class Trait(BaseModel):
    """One annotated property of a synapse: its column, its kind, and what must not leak between folds."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    name: str = Field(min_length=1, description="Name in every table of results.")
    label: str = Field(default="", description="Name on axes and in the report; by default the name in words.")
    kind: Kind = Field(
        description="binary and multiclass: classes; continuous: a number; zero_inflated: a size whose zeros mean that "
        "there is nothing to measure; count: whole numbers."
    )
    column: str = Field(default="", description="Column of the annotation table; the name by default.")
    classes: tuple[str, ...] = Field(
        default=(),
        description="Names of the classes, in the order of their codes 0, 1, ...; cells hold names or codes.",
    )
    not_annotated: tuple[str, ...] = Field(
        default=(), description="Values of a class column that mean the same as an empty cell, such as unknown."
    )
    side: Literal["pre", "post"] | None = Field(
        default=None, description="Side of the synapse that it describes; null: the cleft, or the synapse as a whole."
    )
    level: Literal["synapse", "neurite"] = Field(
        default="synapse",
        description="neurite: all synapses of the neurite on that side share the value, which the consensus tells.",
    )
    property_name: str = Field(
        default="",
        description="What a trait of level neurite says of the neurite; traits of both sides with the same property "
        "are joined. By default the name without pre_, post_, _pre or _post.",
    )
    group: str = Field(
        default="",
        description="Column whose values are never split between training and test synapses. By default post_root_id "
        "for the postsynaptic side, else pre_root_id.",
    )
    unit: str | None = Field(
        default=None,
        description="Unit of the column, for labels; by default what its name ends in, such as _nm.",
    )
    transform: Transform = Field(
        default="none",
        description="none, zscore, log1p_zscore, or is_positive (a count to 0 or 1). By default zscore for continuous, "
        "log1p_zscore for zero_inflated and count, none for classes.",
    )
    optional: bool = Field(
        default=False, description="A table without the column is right: nothing was measured. Else it is an error."
    )
    conditioned_on: str | None = Field(
        default=None, description="Binary trait that must be 1 for this one to exist: no mitochondrion has no size."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        """Derive what was left out from the name, the kind and the side."""
        if not isinstance(given, Mapping):
            return given
        filled = {key: value for key, value in given.items() if value is not None}
        name = str(filled.get("name", ""))
        filled.setdefault("label", readable_name(name)[0])
        filled.setdefault("column", name)
        if filled.get("kind") not in ("binary", "multiclass") and (unit := readable_name(str(filled["column"]))[1]):
            filled.setdefault("unit", unit)
        filled.setdefault("group", "post_root_id" if filled.get("side") == "post" else "pre_root_id")
        filled.setdefault("transform", _TRANSFORM_OF.get(str(filled.get("kind")), "none"))
        if filled.get("level") == "neurite":
            filled.setdefault("property_name", _without_side(name))
        return filled

    @model_validator(mode="after")
    def _fits(self) -> Trait:
        if self.kind == "binary" and len(self.classes) != 2:
            raise ValueError(f"a binary trait has two classes, {len(self.classes)} are declared: name both")
        if self.kind == "multiclass" and len(self.classes) < 3:
            raise ValueError(
                f"a multiclass trait has three classes or more, {len(self.classes)} are declared; two are kind: binary"
            )
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("a class is declared twice")
        if self.kind == "multiclass" and len(set(class_columns(self))) < len(self.classes):
            raise ValueError("two classes differ in signs alone, which columns of results leave out; rename one")
        if self.classes and not self.is_class:
            raise ValueError(f"kind {self.kind} has no classes; leave them out, or make it binary or multiclass")
        if self.is_class and self.transform not in ("none", "is_positive"):
            raise ValueError(f"classes have no transform {self.transform}; leave it out")
        if self.transform == "is_positive" and self.kind != "binary":
            raise ValueError("the transform is_positive makes a binary trait")
        if self.level == "neurite" and self.side is None:
            raise ValueError("level neurite needs a side, pre or post: which neurite it tells of")
        if self.level == "neurite" and not self.is_class:
            raise ValueError("level neurite is for classes; leave it out, and name the neurite's column as the group")
        return self

    @property
    def is_class(self) -> bool:
        """Classes, two or more, in contrast to numbers."""
        return self.kind in ("binary", "multiclass")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the codes 0, 1, ...; empty for numbers."""
        return self.classes

    @property
    def metric(self) -> Metric:
        """ROC AUC for two classes, its mean over classes (one against the rest) for more, else explained variance."""
        if self.kind == "multiclass":
            return "macro_auc"
        return "roc_auc" if self.kind == "binary" else "explained_variance"

    @property
    def root_column(self) -> str:
        """Root ids of the neurite that it belongs to: that of its side, the presynaptic one where it has none."""
        return f"{self.side or 'pre'}_root_id"

    @property
    def scale_label(self) -> str:
        """Words for the scale of its numbers, for axes."""
        if self.transform == "none" and self.unit:
            return self.unit
        return _SCALE_LABELS.get(self.transform, "")

    @property
    def measured_name(self) -> str:
        """Start of the names of columns in the measured unit, which are not those of the transformed values."""
        return f"{self.name}_measured" if self.column == self.name else self.column

    @property
    def scale_transform(self) -> str:
        """Name of the transform in ``annotation_scales``, where that of zero-inflated traits has one of its own."""
        is_zero_inflated = self.kind == "zero_inflated" and self.transform == "log1p_zscore"
        return f"{self.transform}_zi" if is_zero_inflated else self.transform


class Traits(RootModel[tuple[Trait, ...]], Sequence[Trait]):
    """The traits of a run, in the order of tables and figures: the parameter ``traits``.

    An entry is a declaration, the name of one of the published nine, or ``published`` for all of these.
    """

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _declared(cls, given: Any) -> Any:
        """Validate trait by trait, so that what is wrong is told by the trait's name."""
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise ValueError("a list is expected, one entry a trait: see docs/traits.md")
        return tuple(trait for entry in given for trait in _declared(entry))

    @model_validator(mode="after")
    def _fit_together(self) -> Traits:
        names = [trait.name for trait in self.root]
        labels = [trait.label for trait in self.root]
        for kind, values in (("name", names), ("label", labels)):
            twice = next((value for value in values if values.count(value) > 1), None)
            if twice is not None:
                raise ValueError(f"two traits have the {kind} {twice}; each needs one of its own")
        binary = {trait.name for trait in self.root if trait.kind == "binary"}
        for trait in self.root:
            if trait.conditioned_on is not None and trait.conditioned_on not in binary:
                raise ValueError(
                    f"the trait {trait.name} is conditioned on {trait.conditioned_on}, which is no declared binary "
                    "trait; declare it too, or leave conditioned_on out"
                )
        for members in neurite_properties(self).values():
            if len({trait.classes for trait in members}) > 1 or len({trait.side for trait in members}) < len(members):
                raise ValueError(
                    f"the traits {' and '.join(trait.name for trait in members)} tell the same property of neurites, "
                    f"{members[0].property_name}: they need the same classes and a side each, or another property_name"
                )
        return self

    def __iter__(self) -> Iterator[Trait]:  # type: ignore[override]
        """Traits in order."""
        return iter(self.root)

    def __len__(self) -> int:
        """Number of traits."""
        return len(self.root)

    def __getitem__(self, index: Any) -> Any:
        """One trait, or a tuple of them for a slice."""
        return self.root[index]


def _declared(entry: Any) -> tuple[Trait, ...]:
    if isinstance(entry, Trait):
        return (entry,)
    if isinstance(entry, str):
        if entry == PUBLISHED:
            return TRAITS
        try:
            return (trait_named(entry),)
        except TableError as error:
            raise ValueError(f"{error} An own trait needs its kind beside its name") from error
    name = entry.get("name") if isinstance(entry, Mapping) else None
    if not name:
        raise ValueError(f"{entry!r} is no trait; an entry has a name and a kind")
    try:
        return (Trait.model_validate(entry),)
    except ValidationError as error:
        raise ValueError("; ".join(_fault(str(name), found) for found in error.errors())) from error


def _fault(name: str, found: Any) -> str:
    """One fault of a declaration, as a part of a sentence."""
    field = ".".join(str(part) for part in found["loc"])
    if found["type"] == "extra_forbidden":
        return f"the trait {name} has no setting {field}; settings are {', '.join(Trait.model_fields)}"
    if found["type"] == "missing":
        return f"the trait {name} needs its {field}"
    if field == "kind":
        return f"the trait {name} is of kind {found['input']!r}, which is none of {', '.join(get_args(Kind))}"
    message = str(found["msg"]).removeprefix("Value error, ")
    return f"the trait {name}{f', {field}' * bool(field)}: {message[:1].lower()}{message[1:]}"


def _without_side(name: str) -> str:
    for side in _SIDES:
        if name.startswith(f"{side}_"):
            return name.removeprefix(f"{side}_")
        if name.endswith(f"_{side}"):
            return name.removesuffix(f"_{side}")
    return name


def neurite_properties(traits: Sequence[Trait]) -> dict[str, tuple[Trait, ...]]:
    """Properties of neurites, each with the traits, of one or both sides, that tell it."""
    found: dict[str, tuple[Trait, ...]] = {}
    for trait in traits:
        if trait.level == "neurite":
            found[trait.property_name] = (*found.get(trait.property_name, ()), trait)
    return found


_CELL_TYPES = ("excitatory", "inhibitory")
_MITOCHONDRIA = ("none", "at least one")


def _published() -> Iterator[Trait]:
    """The nine, as ``conf/base/parameters_traits.yml`` has them too."""
    sizes: tuple[tuple[str, str, str | None, str, str], ...] = (
        ("cleft_size", "cleft size", None, "vx", "voxels"),
        ("presyn_soma_dist", "presynaptic soma distance", "pre", "um", "um"),
        ("postsyn_soma_dist", "postsynaptic soma distance", "post", "um", "um"),
    )
    declared: list[dict[str, Any]] = [
        {"name": f"{start}_log1p_zscore", "label": label, "kind": "continuous", "transform": "log1p_zscore"}
        | {"side": side, "column": f"{start}_{suffix}", "unit": unit}
        for start, label, side, suffix, unit in sizes
    ]
    declared += [
        {"name": f"mito_size_{side}_vx_log1p_zscore_zi", "label": f"{side}synaptic mitochondria size"}
        | {"kind": "zero_inflated", "side": side, "column": f"mito_size_{side}_vx", "unit": "voxels"}
        | {"conditioned_on": f"has_mito_{side}"}
        for side in _SIDES
    ]
    declared += [
        {"name": f"{side}_cell_type", "label": f"{side}synaptic cell type", "kind": "binary"}
        | {"classes": _CELL_TYPES, "side": side, "level": "neurite"}
        for side in _SIDES
    ]
    declared += [
        {"name": f"has_mito_{side}", "label": f"{side}synaptic mitochondria", "kind": "binary"}
        | {"classes": _MITOCHONDRIA, "side": side, "column": f"n_mitos_{side}", "transform": "is_positive"}
        for side in _SIDES
    ]
    return (Trait.model_validate({**entry, "optional": True}) for entry in declared)


TRAITS: tuple[Trait, ...] = tuple(_published())
"""The nine published traits, in the order of the published table: what functions take by default."""


PUBLISHED_TRAITS = Traits.model_validate(TRAITS)
"""The same as a parameter."""


def trait_named(name: str, traits: Sequence[Trait] = TRAITS) -> Trait:
    """Find a trait by its name.

    Raises:
        TableError: If there is no such trait.
    """
    for trait in traits:
        if trait.name == name:
            return trait
    raise TableError(f"Unknown trait '{name}'. Known traits: {', '.join(trait.name for trait in traits)}.")


def trait_values(annotations: pd.DataFrame, trait: Trait) -> np.ndarray:
    """Values of a trait, with everything that is no measurement turned into NaN.

    Args:
        annotations: One row per synapse.
        trait: The trait to read.

    Returns:
        float64 (n,), codes of classes: NaN where the synapse is not annotated, where the conditioning trait is not 1,
        and for -inf, which stands for "nothing to measure" in zero-inflated columns. NaN everywhere if the column is
        absent.
    """
    values_n = _column(annotations, trait.name)
    if trait.conditioned_on is not None:
        values_n = np.where(_column(annotations, trait.conditioned_on) == 1.0, values_n, np.nan)
    return np.where(np.isfinite(values_n), values_n, np.nan)


def _column(annotations: pd.DataFrame, name: str) -> np.ndarray:
    if name not in annotations:
        return np.full(len(annotations), np.nan)
    values_n: np.ndarray = annotations[name].astype("float64").to_numpy()
    return values_n


def class_traits(trait: Trait) -> tuple[Trait, ...]:
    """A binary trait for each class of a multi-class one, against all other classes; the trait itself otherwise."""
    if trait.kind != "multiclass":
        return (trait,)
    shared = {"kind": "binary", "side": trait.side, "group": trait.group}
    return tuple(
        Trait.model_validate(
            {"name": name, "label": f"{trait.label}: {of_class}", "classes": ("other", of_class), **shared}
            if of_class != "other"
            else {"name": name, "label": f"{trait.label}: other", "classes": ("not other", "other"), **shared}
        )
        for name, of_class in zip(class_columns(trait), trait.classes, strict=True)
    )


def class_columns(trait: Trait) -> tuple[str, ...]:
    """Start of the names of the columns that belong to each class: the trait's name, and that of the class."""
    return tuple(f"{trait.name}_{_as_name(of_class)}" for of_class in trait.classes)


def _as_name(text: str) -> str:
    return re.sub(r"[^0-9A-Za-z]+", "_", text).strip("_")


def values_by_class(annotations: pd.DataFrame, traits: Sequence[Trait]) -> Iterator[tuple[Trait, np.ndarray]]:
    """Traits with their values, where each class of a multi-class trait is a binary one of its own.

    Args:
        annotations: One row per synapse.
        traits: Traits to read.

    Yields:
        The trait, or that of a class, and its values, float64 (n,): for classes 0 and 1, NaN where not annotated.
    """
    for trait in traits:
        values_n = trait_values(annotations, trait)
        for code, of_class in enumerate(class_traits(trait)):
            is_part = trait.kind == "multiclass"
            yield of_class, np.where(np.isnan(values_n), np.nan, values_n == code) if is_part else values_n


def counted_classes(traits: Sequence[Trait]) -> dict[str, str]:
    """Name of each trait, or trait of a class, whose mean is a share, and the class that is counted."""
    return {
        of_class.name: of_class.classes[1] for trait in traits for of_class in class_traits(trait) if of_class.is_class
    }


def class_texts(values_n: np.ndarray, trait: Trait, unknown: str = "") -> list[str]:
    """Names of the classes of codes, float (n,); ``unknown`` for NaN."""
    return [trait.classes[int(value)] if np.isfinite(value) else unknown for value in values_n]
