"""A report as one self-contained page: sections of text, pictures and tables in, HTML out."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from synapseclr.plotting.theme import figure_png
from synapseclr.privacy.redaction import redact

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure


@dataclass(frozen=True)
class Picture:
    """A figure with its caption, which also serves as the text for those who cannot see it."""

    figure: Figure
    caption: str


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        columns: Headings.
        rows: Cells, as many per row as there are headings.
        caption: What the table says.
        strong: Positions (row, column) to set in bold.
        has_numbers: Whether everything from the third column on is a number, to be kept on one line.
        is_folded: Whether the table starts closed on screen; it is always open on paper.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    strong: frozenset[tuple[int, int]] = frozenset()
    is_folded: bool = False
    has_numbers: bool = False


@dataclass(frozen=True)
class Section:
    """A section of the report.

    Attributes:
        title: Heading.
        text: Paragraphs of plain text.
        pictures: Figures, after the text.
        tables: Tables, after the pictures.
        interactive: A plotly figure, last; the first one in a report brings plotly's code with it.
    """

    title: str
    text: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    interactive: PlotlyFigure | None = None


@dataclass(frozen=True)
class _RenderedSection:
    section: Section
    anchor: str
    images: list[tuple[str, str]] = field(default_factory=list)
    interactive: str = ""


def render_report(
    title: str,
    facts: Mapping[str, str],
    sections: Sequence[Section],
    footer: str = "",
    dpi: int = 110,
    summary: Sequence[str] = (),
) -> str:
    """Render a report.

    Args:
        title: Heading of the page.
        facts: Name to value of the few figures that stand on top.
        sections: The contents.
        footer: Last line, such as the version that made the report.
        dpi: Resolution of the pictures.
        summary: What a reader with half a minute should know: one sentence or two an entry.

    Returns:
        An HTML page that loads nothing from anywhere: style and pictures lie inside.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("synapseclr.plotting.report", "templates"),
        autoescape=True,
        finalize=_told,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        title=title, facts=facts, summary=summary, sections=_render_sections(sections, dpi), footer=footer
    )


def _told(value: object) -> object:
    """Any text on the page, without passwords and without this machine's paths; pictures are marked as safe."""
    return redact(value) if type(value) is str else value


def _render_sections(sections: Sequence[Section], dpi: int) -> list[_RenderedSection]:
    from markupsafe import Markup

    rendered = []
    has_plotly = False
    for number, section in enumerate(sections, start=1):
        images: list[tuple[str, str]] = [
            (Markup(base64.b64encode(figure_png(picture.figure, dpi)).decode("ascii")), picture.caption)
            for picture in section.pictures
        ]
        interactive = ""
        if section.interactive is not None:
            interactive = section.interactive.to_html(
                full_html=False, include_plotlyjs=not has_plotly, config={"displaylogo": False}
            )
            has_plotly = True
        rendered.append(_RenderedSection(section, f"section-{number}", images, interactive))
    return rendered
