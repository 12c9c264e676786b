"""Write the configuration reference from the pydantic models and ``conf/base``, when the site is built."""

import inspect
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel, RootModel
from pydantic.fields import FieldInfo

_NO_DEFAULT = "(required)"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page ``configuration.md``."""
    base = Path(config.config_file_path).parent / "conf" / "base"
    files.append(File.generated(config, "configuration.md", content=configuration_page(base)))
    return files


def configuration_page(base: Path) -> str:
    """Markdown of the reference.

    Args:
        base: The folder ``conf/base``.
    """
    given = _given(base)
    lines = [
        "# Configuration",
        "",
        "Every parameter of every pipeline, as the models define it. The site's build makes this page from them.",
        "Parameters are checked before a run begins; unknown names and values out of range stop it.",
        "",
        "A parameter is set in `conf/<environment>/<pipeline>/parameters.yml`, or on the command line as",
        "`--params=<name>=<value>,<name>=<value>`, such as `--params=pretraining.optimiser.learning_rate=0.001`: the",
        "section's name, then the parameter's. *Default* holds if nothing is said (mostly the published value);",
        "*conf/base* is what the demo's configuration says, for two CPU cores.",
        "",
    ]
    for name, model in parameter_models().items():
        lines += [f"## {name}", ""]
        lines += [_summary(model), ""]
        lines += ["| parameter | type | default | conf/base | meaning |", "|---|---|---|---|---|"]
        lines += [_row(name, path, field, given) for path, field in _fields(model, name)]
        lines.append("")
    return "\n".join(lines)


def parameter_models() -> dict[str, type[BaseModel]]:
    """Model of every ``params:`` input of every registered pipeline, in the order in which pipelines run."""
    from synapseclr.pipeline_registry import register_pipelines

    models: dict[str, type[BaseModel]] = {}
    for pipeline in register_pipelines().values():
        for node in pipeline.nodes:
            hints = list(typing.get_type_hints(node.func).items())
            for (_, hint), dataset in zip(hints, node.inputs, strict=False):
                if dataset.startswith("params:") and isinstance(hint, type) and issubclass(hint, BaseModel):
                    models.setdefault(dataset.removeprefix("params:"), hint)
    order = ["simulation", "preprocessing", "pretraining", "serving", "embedding"]
    return dict(sorted(models.items(), key=lambda item: order.index(item[0]) if item[0] in order else 99))


def _given(base: Path) -> dict[str, Any]:
    """Dotted names of what ``conf/base`` sets, as written there."""
    given: dict[str, Any] = {}
    for path in sorted(base.glob("*/parameters*.yml")):
        tree = yaml.safe_load(path.read_text()) or {}
        if isinstance(tree.get("augmentations"), dict):
            tree = tree | {"pretraining": {"augmentation": tree["augmentations"]["so3"]}}
        given |= dict(_flat(tree))
    return given


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        yield f"{prefix}{key}", value
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")


def _fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    if issubclass(model, RootModel):
        model = typing.get_args(model.model_fields["root"].annotation)[0]  # a list of entries
    for name, field in model.model_fields.items():
        nested = next((kind for kind in _members(field.annotation) if _is_model(kind)), None)
        if nested is None:
            yield f"{prefix}.{name}", field
        else:
            yield from _fields(nested, f"{prefix}.{name}")


def _members(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _row(pipeline: str, path: str, field: FieldInfo, given: dict[str, Any]) -> str:
    default = _NO_DEFAULT if field.is_required() else _value(field.get_default(call_default_factory=True))
    base = _value(given[path]) if path in given else ""
    meaning = _escape(field.description or "")
    return f"| `{path.removeprefix(pipeline)}` | {_escape(_type(field))} | {default} | {base} | {meaning} |"


def _type(field: FieldInfo) -> str:
    text = _type_name(field.annotation)
    signs = {"Ge": ">=", "Gt": ">", "Le": "<=", "Lt": "<"}
    bounds = [
        f"{signs[type(item).__name__]} {next(iter(vars(item).values())):g}"
        if hasattr(item, "__dict__")
        else f"{signs[type(item).__name__]} {getattr(item, type(item).__name__.lower()):g}"
        for item in field.metadata
        if type(item).__name__ in signs
    ]
    return f"{text}, {', '.join(bounds)}" if bounds else text


def _type_name(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is type(None):
        return "null"
    if origin is typing.Annotated:
        return _type_name(arguments[0])
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_name(item) for item in arguments)
    if origin in (tuple, list):
        items = [_type_name(item) for item in arguments if item is not Ellipsis]
        if Ellipsis in arguments or origin is list:
            return f"list of {items[0]}"
        return f"{len(items)} x {items[0]}" if len(set(items)) == 1 else ", ".join(items)
    if origin is dict:
        return "mapping"
    return getattr(annotation, "__name__", str(annotation))


def _value(value: Any) -> str:
    if isinstance(value, BaseModel):
        return ""
    text = yaml.safe_dump(list(value) if isinstance(value, tuple) else value, default_flow_style=True, width=1000)
    text = text.removesuffix("...\n").strip()
    return f"`{text}`" if text else ""


def _summary(model: type[BaseModel]) -> str:
    return (inspect.getdoc(model) and inspect.cleandoc(model.__doc__ or "").split("\n\n")[0]) or ""


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
