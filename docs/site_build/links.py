"""Make links that are right in the repository right on the site too.

Pages link to files outside of ``docs/``, and those link back. ``CHANGELOG.md`` and ``CONTRIBUTING.md`` become pages,
other files that a page links to are copied, so that no link leaves the site.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "README.md": "index.md"}
_LINK = re.compile(r"(?<=\]\()(?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?(?=\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add pages and files that lie outside of ``docs/``."""
    project = Path(config.config_file_path).parent
    for source, page in PAGES.items():
        if page != "index.md":
            files.append(File.generated(config, page, content=(project / source).read_text()))
    for path in sorted(Path(config.docs_dir).rglob("*.md")):
        place = path.parent.relative_to(project).as_posix()
        for match in _LINK.finditer(path.read_text()):
            linked = _outside(match["target"], place)
            if (
                linked
                and linked not in PAGES
                and (project / linked).is_file()
                and files.get_file_from_path(linked) is None
            ):
                files.append(File.generated(config, linked, abs_src_path=str(project / linked)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite links; MkDocs calls this for every page."""
    project = Path(config.config_file_path).parent
    source = page.file.src_uri
    origin = next((name for name, target in PAGES.items() if target == source and source != "index.md"), None)
    place = posixpath.dirname(origin or f"docs/{source}")
    base = posixpath.dirname(source) or "."

    def rewrite(match: re.Match[str]) -> str:
        target, anchor = match["target"], match["anchor"] or ""
        if "://" in target or target.startswith(("mailto:", "/")):
            return match[0]
        absolute = posixpath.normpath(posixpath.join(place, target))
        if absolute in PAGES:
            if absolute == "README.md" and anchor == "#your-own-data":
                return posixpath.relpath("own_data.md", base)
            return posixpath.relpath(PAGES[absolute], base) + ("" if absolute == "README.md" else anchor)
        inside = absolute.removeprefix("docs/")
        if inside != absolute or files.get_file_from_path(absolute) or (project / absolute).is_dir():
            return posixpath.relpath(inside, base) + anchor
        return match[0]

    return _LINK.sub(rewrite, markdown)


def _outside(target: str, place: str) -> str | None:
    """The path in the project of a link that leaves ``docs/``."""
    if "://" in target:
        return None
    absolute = posixpath.normpath(posixpath.join(place, target))
    return None if absolute.startswith(("docs/", "../", "/")) else absolute
