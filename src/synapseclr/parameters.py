"""Base classes of parameters, which are validated when the configuration is read."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator


class Parameters(BaseModel):
    """Frozen, and without tolerance for names that mean nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ParametersOfKind(Parameters):
    """Parameters of something that comes in kinds, some of which have parameters of their own.

    A parameter that the chosen kind does not have must be left at its default, and is not dumped: a digest of the dump
    depends on what acts on the run, and on nothing else.

    Attributes:
        kind_field: Name of the field that chooses the kind.
        noun: What errors call a kind.
        own_parameters: By kind, the fields that not every kind has.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    kind_field: ClassVar[str] = "name"
    noun: ClassVar[str] = "kind"
    own_parameters: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def _foreign(self) -> set[str]:
        """Fields that only other kinds have."""
        own = self.own_parameters.get(getattr(self, self.kind_field), ())
        return set(chain(*self.own_parameters.values())).difference(own)

    @model_validator(mode="after")
    def _no_foreign_parameter(self) -> Self:
        for name in sorted(self._foreign()):
            if (value := getattr(self, name)) != type(self).model_fields[name].default:
                owners = " or ".join(f"'{kind}'" for kind, own in self.own_parameters.items() if name in own)
                raise ValueError(
                    f"{name} is {value}, but the {self.noun} '{getattr(self, self.kind_field)}' has no such parameter. "
                    f"Leave {name} out, or choose the {self.noun} {owners}."
                )
        return self

    @model_serializer(mode="wrap")
    def _without_foreign_parameters(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        foreign = self._foreign()
        return {key: value for key, value in dump(self).items() if key not in foreign}


def label_parameters(values: Mapping[str, Any], separator: str = ", ") -> str:
    """Write parameters as ``name=value``, by the last parts of their dotted names where these differ."""
    short = {name: name.rpartition(".")[2] for name in values}
    is_clear = len(set(short.values())) == len(short)
    return separator.join(f"{short[name] if is_clear else name}={value}" for name, value in values.items())


def flatten_names(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings and pydantic models to dotted names."""
    inner = tree.model_dump(mode="json") if isinstance(tree, BaseModel) else tree
    if not isinstance(inner, Mapping) or (not inner and prefix):
        return {prefix: inner}
    start = f"{prefix}." if prefix else ""
    return {key: leaf for name, value in inner.items() for key, leaf in flatten_names(value, f"{start}{name}").items()}
