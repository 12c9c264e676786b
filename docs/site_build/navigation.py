"""Fill in the navigation: ``folder/*.md`` becomes the pages of that folder, in the order of their names."""

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Expand the patterns; MkDocs calls this before it reads pages."""
    config.nav = _expand(config.nav or [], Path(config.docs_dir))
    return config


def _expand(entries: list[Any], folder: Path) -> list[Any]:
    expanded: list[Any] = []
    for entry in entries:
        if isinstance(entry, dict):
            ((title, target),) = entry.items()
            if isinstance(target, str) and "*" in target:
                target = [target]
            expanded.append({title: _expand(target, folder) if isinstance(target, list) else target})
        elif "*" in entry:
            expanded += [str(path.relative_to(folder)) for path in sorted(folder.glob(entry))]
        else:
            expanded.append(entry)
    return expanded
