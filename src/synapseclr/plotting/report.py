"""The report: sections of text, pictures and tables in, one self-contained HTML page out.

Each pipeline renders its own sections (:func:`pipeline_section`); :func:`render_report` joins them.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from synapseclr.parameters import Parameters
from synapseclr.plotting.theme import SYNAPSES, figure_png
from synapseclr.privacy import redact

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure
    from PIL.Image import Image
    from plotly.graph_objects import Figure as PlotlyFigure

    Drawing = Figure | bytes  # drawn, or as the catalog loads what was saved: a PNG file

Part = Literal["use", "comparison", "data", "appendix"]
PARTS: dict[Part, str] = {
    "use": "What the representation is for",
    "comparison": "What learning adds, and what statistics do better",
    "data": "Data and methods",
    "appendix": "Appendix",
}
"""Parts of the report with their headings, in order."""

_PX_PER_INCH = 110  # of a figure as the page shows it, whatever its resolution
_MOST_BYTES_A_PIXEL = 0.4  # sections of tissue take 0.16, a matrix of correlations 1.1
_QUALITY = 88  # of WebP with a loss: letters stay sharp


class ReportingConfig(Parameters):
    """Contents of the report."""

    title: str = Field(default="Synapse representations", description="Heading of the report.")
    probe: Literal["linear", "knn"] = Field(default="linear", description="Probe whose scores make up the evaluation.")
    n_examples: int = Field(default=12, ge=1, le=60, description="Example synapses on the contact sheet.")
    interactive: bool = Field(
        default=False, description="Put an interactive manifold into the report; adds about 5 MB of plotly to the file."
    )
    dpi: int = Field(
        default=220,
        ge=50,
        le=300,
        description="Resolution of the report's images, dots per inch; 220, as pipelines save them, is sharp on "
        "screens with two pixels for one of the page.",
    )
    explorer: str = Field(
        default="http://127.0.0.1:8050/",
        description="Address of the explorer, or of a static copy of it, to which the synapses in the pictures link.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the choice of examples.")


@dataclass(frozen=True)
class Picture:
    """A figure with its caption, which is also its alternative text.

    Attributes:
        figure: A figure, or the bytes of a PNG file, as the catalog loads a figure that was saved; none: it was not
            drawn, and is left out.
        caption: What it shows.
    """

    figure: Drawing
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
        title: Heading; unique on the page.
        text: Paragraphs of plain text.
        pictures: Figures, after the text.
        tables: Tables, after the pictures.
        interactive: A plotly figure, last; the page has plotly's code once.
        part: Part of the report in which the section stands.
    """

    title: str
    text: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    interactive: PlotlyFigure | None = None
    part: Part = "use"


def render_section(section: Section, config: ReportingConfig | None = None) -> dict[str, Any]:
    """Render what stands below a section's heading, with its pictures inside.

    Args:
        section: The contents.
        config: The parameters ``reporting``. Pictures that were saved at a lower resolution stay as they are.

    Returns:
        ``title``, ``anchor`` (of links to it), ``part``, ``html``, ``has_plotly``, and an empty ``note``.
    """
    from markupsafe import Markup

    config = config or ReportingConfig()
    pictures = [_embedded(picture, config.dpi) for picture in section.pictures if picture.figure != b""]
    interactive = ""
    if section.interactive is not None:
        interactive = section.interactive.to_html(
            full_html=False, include_plotlyjs=False, config={"displaylogo": False}
        )
    anchor = "-".join(section.title.lower().split())
    html = (
        _environment()
        .get_template("section.html.j2")
        .render(section=section, pictures=pictures, interactive=Markup(interactive), explorer=config.explorer)
    )
    return {
        "title": section.title,
        "anchor": anchor,
        "part": section.part,
        "html": html,
        "has_plotly": bool(interactive),
        "note": "",
    }


def pipeline_section(
    sections: Sequence[Section],
    config: ReportingConfig | None = None,
    made_from: Mapping[str, str] | None = None,
    warnings: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Render what a pipeline contributes to the report and to the evaluation; nothing but JSON's own types.

    Args:
        sections: Its sections, in order.
        config: The parameters ``reporting``.
        made_from: Digests of what it was computed from, as :func:`embedding_digests` gives them.
        warnings: Sentences that stand on top of the report.
        facts: What the top of the report needs to know.
        evaluation: Entries of the evaluation document.

    Returns:
        ``sections`` (see :func:`render_section`), and the other arguments under their names.
    """
    return {
        "sections": [render_section(section, config) for section in sections],
        "made_from": dict(made_from or {}),
        "warnings": list(warnings),
        "facts": dict(facts or {}),
        "evaluation": dict(evaluation or {}),
    }


def embedding_digests(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Digests by which two sections are known to be about the same embeddings.

    Args:
        provenance: Of the embeddings: ``uns["provenance"]``.

    Returns:
        ``embeddings``, a digest of the whole provenance but for the version of this package, and ``weights`` and
        ``chunks`` where the provenance names them.
    """
    told = sorted((str(name), str(value)) for name, value in provenance.items() if name != "synapseclr_version")
    digests = {"embeddings": hashlib.sha256(json.dumps(told).encode()).hexdigest()}
    named = {what: provenance.get(f"{what}_sha256") for what in ("weights", "chunks")}
    return digests | {what: str(digest) for what, digest in named.items() if digest is not None}


def as_text(value: Any) -> str:
    """Write a value for a table: sizes as "a x b x c", integers with thousands set apart."""
    if isinstance(value, list | tuple):
        return " x ".join(str(item) for item in value) if len(value) == 3 else ", ".join(str(item) for item in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def render_report(
    title: str,
    facts: Mapping[str, str],
    sections: Sequence[Mapping[str, Any]],
    footer: str = "",
    summary: Sequence[str] = (),
    warnings: Sequence[str] = (),
    origin: Mapping[str, str] | None = None,
    explorer: str = "",
) -> str:
    """Join sections to a page.

    Args:
        title: Heading of the page.
        facts: Name to value of the few figures that stand on top.
        sections: The contents, from :func:`render_section`; a ``note`` stands below the heading.
        footer: Last line, such as the version that made the report.
        summary: What a reader with half a minute should know: one sentence or two an entry.
        warnings: What a reader must know before believing any of it.
        origin: Name to value of what tells this report from others: its date, data set, commit.
        explorer: Address to which the synapses in the pictures link.

    Returns:
        An HTML page that loads nothing from anywhere: style, pictures and scripts lie inside.
    """
    from markupsafe import Markup

    plotly = ""
    if any(section["has_plotly"] for section in sections):
        from plotly.offline import get_plotlyjs

        plotly = get_plotlyjs()
    contents = [{"part": "use", **section, "html": Markup(section["html"])} for section in sections]
    parts = [(key, heading, [item for item in contents if item["part"] == key]) for key, heading in PARTS.items()]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=title,
            facts=facts,
            summary=summary,
            warnings=warnings,
            parts=[part for part in parts if part[2]],
            origin=origin or {},
            explorer=explorer,
            footer=footer,
            plotly=Markup(plotly),
        )
    )


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("synapseclr.plotting", "templates"),
        autoescape=True,
        finalize=_told,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _told(value: object) -> object:
    """Redact passwords and this machine's paths in any text on the page; pictures are marked as safe."""
    return redact(value) if type(value) is str else value


def _embedded(picture: Picture, dpi: int) -> dict[str, Any]:
    """A picture inside of a page.

    Returns:
        ``data`` (WebP as base64), ``width_px``, ``caption``, and ``synapses``: id and box (left, top, width, height in
        percent of the picture) of each synapse in it, as :func:`~synapseclr.plotting.theme.figure_png` notes them.
    """
    from markupsafe import Markup
    from PIL import Image

    saved = picture.figure if isinstance(picture.figure, bytes) else figure_png(picture.figure, dpi)
    with Image.open(io.BytesIO(saved)) as opened:
        image = opened.convert("RGB")
        saved_dpi = float(opened.info.get("dpi", (dpi, dpi))[0])
        noted = json.loads(opened.info.get(SYNAPSES, "[]"))
    width_px = round(image.width * _PX_PER_INCH / saved_dpi)
    if saved_dpi > dpi + 1:  # PNG keeps the resolution in whole dots per metre
        size = (round(image.width * dpi / saved_dpi), round(image.height * dpi / saved_dpi))
        image = image.resize(size, Image.Resampling.LANCZOS)
    data = Markup(base64.b64encode(_compressed(image)).decode("ascii"))
    synapses = [(identifier, [f"{100 * share:.2f}" for share in box]) for identifier, *box in noted]
    return {"data": data, "width_px": width_px, "caption": picture.caption, "synapses": synapses}


def _compressed(image: Image) -> bytes:
    """WebP without a loss, half of a PNG; with one where neighbouring pixels have nothing in common."""
    buffer = io.BytesIO()
    image.save(buffer, format="webp", lossless=True, method=2, quality=50)
    if len(buffer.getvalue()) > _MOST_BYTES_A_PIXEL * image.width * image.height:
        buffer = io.BytesIO()
        image.save(buffer, format="webp", quality=_QUALITY, method=3)
    return buffer.getvalue()
