"""Operations of the augmentation, one in each file: its parameters, its draw and its application."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from synapseclr.augmentation.operations.operation import Operation, Source, ViewState

if TYPE_CHECKING:
    from synapseclr.augmentation.config import AugmentationConfig

__all__ = ["Operation", "Source", "ViewState", "build_operations", "find_operation"]


def find_operation(name: str) -> type[Operation]:
    """The class of an operation by its name here, or by its place elsewhere, ``my_package.my_module.MyOperation``.

    Raises:
        ValueError: If there is none.
    """
    module_name, _, class_name = name.rpartition(".")
    try:
        module = import_module(module_name or f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        raise ValueError(f"there is no operation '{name}': {error}") from error
    if class_name and module_name:
        found = getattr(module, class_name, None)
        candidates = [found] if isinstance(found, type) and issubclass(found, Operation) else []
    else:
        candidates = [
            each
            for each in vars(module).values()
            if isinstance(each, type) and issubclass(each, Operation) and getattr(each, "name", None) == name
        ]
    if not candidates:
        raise ValueError(f"{module.__name__} has no subclass of Operation named '{class_name or name}'")
    return candidates[0]


def build_operations(config: AugmentationConfig) -> list[Operation]:
    """The operations of a configuration, in their order; parameters not given in the list are the published fields."""
    operations: list[Operation] = []
    for name, given in config.listed_operations():
        kind = find_operation(name)
        flat = {field: getattr(config, field) for field in kind.model_fields if field in type(config).model_fields}
        operations.append(kind(**(flat | dict(given))))
    return operations
