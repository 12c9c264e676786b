"""The report page."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image
from plotly.graph_objects import Figure as PlotlyFigure
from plotly.graph_objects import Scatter

from synapseclr.plotting.report import Picture, ReportingConfig, Section, Table, render_report, render_section
from synapseclr.plotting.theme import figure_png, mark_synapse, new_figure, panel_grid

SMALL = ReportingConfig(dpi=50)


def _page(**section):
    first = render_section(Section("First", ["Some <text>."], **section), SMALL)
    return render_report("Title", {"synapses": "450"}, [first], "the end")


def _loads(html):
    """Everything that a browser would fetch: links are not."""
    return re.findall(r"""(?:src|<link[^>]+href|url\(|@import)\s*[=(]?\s*["']?(https?:)?//""", html)


def test_page_is_self_contained():
    figure = new_figure(2, 2)
    figure.subplots().plot(np.arange(3))
    html = _page(pictures=[Picture(figure, "A line & more"), Picture(b"", "Chunks that are not there")])
    assert "not there" not in html
    assert html.count("data:image/webp;base64,") == 1
    assert 'alt="First: A line &amp; more"' in html
    assert not _loads(html)
    assert "<script" not in html


def _shown(html):
    data, width_px = re.findall(r'base64,([^"]+)" width="(\d+)"', html)[0]
    return Image.open(io.BytesIO(base64.b64decode(data))), int(width_px)


@pytest.mark.parametrize("dpi", [50, 100, 300])
def test_a_saved_picture_is_embedded_pixel_by_pixel_unless_it_is_too_large(dpi):
    figure = new_figure(2, 1)
    figure.subplots().plot(np.arange(3))
    saved = figure_png(figure, dpi=100)
    image, width_px = _shown(
        render_section(Section("First", pictures=[Picture(saved, "A line")]), ReportingConfig(dpi=dpi))["html"]
    )
    assert width_px == 220  # two inches, whatever the resolution
    assert image.size == ((100, 50) if dpi == 50 else (200, 100))
    if dpi >= 100:
        np.testing.assert_array_equal(image, Image.open(io.BytesIO(saved)).convert("RGB"))


def test_figures_are_sharp_on_screens_of_two_pixels_for_one():
    figure = new_figure(2, 1)
    image, width_px = _shown(render_section(Section("First", pictures=[Picture(figure, "A line")]))["html"])
    assert image.width == 2 * width_px == 440


def test_noise_is_compressed_with_a_loss():
    figure, (panel,) = panel_grid(1, 1, (2.0, 2.0))
    panel.imshow(np.random.default_rng(0).random((400, 400, 3)))
    saved = figure_png(figure, dpi=200)
    html = render_section(Section("First", pictures=[Picture(saved, "noise")]))["html"]
    assert len(html) < len(saved)


def test_marked_axes_become_links_where_they_are():
    figure, panels = panel_grid(3, 3, (1.0, 1.0))
    for axes, synapse in zip(panels, (2**60 + 1, 7, "chunk.npy"), strict=True):
        mark_synapse(axes, synapse)
    pictures = [Picture(figure_png(figure, dpi=50), "three")]
    html = render_section(Section("First", pictures=pictures), ReportingConfig(dpi=50, explorer="copy/"))["html"]
    found = re.findall(r'<a href="([^"]+)".*left: ([\d.]+)%; top: [\d.]+%; width: ([\d.]+)%', html)
    assert [address for address, *_ in found] == [f"copy/#synapse={2**60 + 1}", "copy/#synapse=7"]
    width_in = figure.get_size_inches()[0]
    assert [float(width) for *_, width in found] == pytest.approx(2 * [100 / width_in], abs=0.02)
    assert float(found[1][1]) == pytest.approx(100 * (0.1 + 1.06) / width_in, abs=0.02)


def test_text_is_escaped():
    assert "Some &lt;text&gt;." in _page()


def test_passwords_and_paths_of_this_machine_stay_out():
    cells = ["https://ada:pa55@host/em", "/scratch/ada/data", "data/06_models", "gs://bucket/prefix"]
    html = _page(tables=[Table(("value",), [[cell] for cell in cells], "of /scratch/ada/data")])
    assert "pa55" not in html
    assert "/scratch" not in html
    for kept in ("https://***@host/em", ".../data", "data/06_models", "gs://bucket/prefix", "of .../data"):
        assert kept in html


def test_tables_mark_the_best():
    html = _page(tables=[Table(("a", "b"), [("1", "2")], "caption", frozenset({(0, 1)}))])
    assert '<td class="strong">2</td>' in html
    assert "<td>1</td>" in html


def test_plotly_comes_once():
    interactive = PlotlyFigure(Scatter(x=[1], y=[2]))
    sections = [render_section(Section(title, interactive=interactive)) for title in "ab"]
    html = render_report("t", {}, sections)
    assert html.count("Plotly.newPlot(") >= 2
    assert len(html) < 8e6
    assert not re.findall(r"""<(?:script|link|img)[^>]+(?:src|href)=["']https?:""", html)


def test_page_has_a_summary_headings_in_order_and_named_regions():
    tables = [Table(("a", "b"), [("1", "2")], "caption"), Table(("a", "b"), [("1", "2")], "folded", is_folded=True)]
    html = render_report("Title", {}, [render_section(Section("First", tables=tables))], summary=["One <sentence>."])
    assert re.findall(r"<h(\d)", html) == ["1", "2", "2", "3"]
    assert "<li>One &lt;sentence&gt;.</li>" in html
    regions = re.findall(r'role="region" aria-label="([^"]+)"', html)
    assert len(regions) == len(set(regions)) == 2
    assert "<caption>caption</caption>" in html


def test_page_is_made_for_dark_screens_and_for_paper():
    html = _page()
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
