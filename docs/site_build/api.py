"""Make one API page per library package from what the package exports, when the site is built."""

import ast
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PACKAGES = ("volumes", "augmentation", "models", "objectives", "training", "analysis", "plotting", "datasets")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages into the navigation in place of ``api/*``."""
    _fill(config.nav or [])
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages; the objects on them are described by mkdocstrings."""
    source = Path(config.config_file_path).parent / "src" / "synapseclr"
    for package in PACKAGES:
        files.append(File.generated(config, f"api/{package}.md", content=api_page(source / package)))
    return files


def api_page(folder: Path) -> str:
    """Markdown of the page of a package.

    Args:
        folder: Where its ``__init__.py`` lies.
    """
    tree = ast.parse((folder / "__init__.py").read_text())
    name = f"synapseclr.{folder.name}"
    lines = [f"# {name}", "", ast.get_docstring(tree) or "", ""]
    exported = exports(tree, name)
    if exported:
        lines += [f"Import these from `{name}`.", ""]
        lines += [
            f"::: {place}\n    options: {{heading_level: 2}}\n"
            for _, place in sorted(exported.items(), key=lambda item: item[0].lower())
        ]
    else:
        lines += ["Import each name from its module.", ""]
        for module in sorted(folder.glob("[!_]*.py")):
            lines += [f"## {folder.name}.{module.stem}", "", f"::: {name}.{module.stem}"]
            lines += ["    options: {show_root_heading: false, show_root_toc_entry: false}", ""]
        for package in sorted(path.parent for path in folder.glob("*/__init__.py")):
            tree = ast.parse((package / "__init__.py").read_text())
            listed = exports(tree, f"{name}.{package.name}")
            lines += [f"## {folder.name}.{package.name}", "", ast.get_docstring(tree) or "", ""]
            lines += [f"::: {place}\n" for _, place in sorted(listed.items(), key=lambda item: item[0].lower())]
    return "\n".join(lines)


def exports(tree: ast.Module, package: str) -> dict[str, str]:
    """Where each name of ``__all__`` is defined: imported at the top, or listed in ``_LAZY``.

    Args:
        tree: The parsed ``__init__.py``.
        package: Its dotted name.
    """
    tables = {
        target.id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id in ("__all__", "_LAZY")
    }
    places = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    places |= {name: f"{package}.{module}.{name}" for name, module in tables.get("_LAZY", {}).items()}
    return {name: places.get(name, f"{package}.{name}") for name in tables.get("__all__", [])}


def _fill(entries: list) -> None:
    for entry in entries:
        for title, target in list(entry.items()) if isinstance(entry, dict) else ():
            if target == "api/*":
                entry[title] = [f"api/{package}.md" for package in PACKAGES]
            elif isinstance(target, list):
                _fill(target)
