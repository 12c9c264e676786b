"""The plane of synapses, its clusters and axes, and technical effects."""

import numpy as np
import pandas as pd
import pytest

from synapseclr.analysis.leakage_scores import EFFECT_LABELS, LEAKAGE_COLUMNS
from synapseclr.plotting import (
    Overlay,
    interactive_scatter,
    scatter_panels,
)
from synapseclr.plotting.manifold import DrawnAxis, cluster_map, leakage_panel, marker_area
from synapseclr.plotting.theme import figure_png

RNG = np.random.default_rng(0)
STYLES = {"a": ("A", "#0072b2"), "b": ("B", "#8f8f8f")}


def _texts(figure):
    figure.draw_without_rendering()
    return " ".join(text.get_text() for axes in figure.axes for text in axes.texts)


def _leakage(score):
    rows = [
        (name, "encoder.fc", effect, probe, score, -0.1, 0.01, 0.01, 50, None)
        for name in STYLES
        for effect, probe in (("cleft_tilt", "linear"), ("cleft_tilt", "knn"), ("section", "groups"))
    ]
    return pd.DataFrame(rows, columns=list(LEAKAGE_COLUMNS))


@pytest.mark.parametrize("n_points", [12, 100000])
def test_markers_neither_vanish_nor_merge(n_points):
    assert 0.5 < marker_area(n_points) < 30


def test_scatter_shows_unannotated_synapses_too():
    values_n = np.array([0.0, 1.0, np.nan, 1.0])
    overlays = [
        Overlay("type", values_n, ("excitatory", "inhibitory")),
        Overlay("size", values_n),
        Overlay("nothing", np.full(4, np.nan)),
    ]
    coordinates_n2 = np.arange(8.0).reshape(4, 2)
    figure = scatter_panels(coordinates_n2, overlays)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["type (3 of 4)", "size (3 of 4)", "nothing (0 of 4)"]
    sample = scatter_panels(coordinates_n2, overlays[:1], is_sample=True)
    assert sample.axes[0].get_title(loc="left") == "type (3 drawn)"
    assert figure_png(figure, dpi=50).startswith(b"\x89PNG")

    interactive = interactive_scatter(coordinates_n2, overlays, np.arange(4) + 2**60)
    assert len(interactive.data) == 6
    assert interactive.data[1].text[0] == str(2**60)
    assert [button.label for button in interactive.layout.updatemenus[0].buttons] == ["type", "size", "nothing"]
    assert [trace.visible for trace in interactive.data[:3]] == [True, True, False]


def test_clusters_are_numbered_and_axes_named():
    ends_22 = np.array([[0.0, 0.0], [1.0, 1.0]])
    figure = cluster_map(RNG.normal(size=(30, 2)), np.repeat([0, 1, -1], 10), [DrawnAxis("axis 1", ends_22, ends_22)])
    assert {"0", "1", "axis 1"} <= set(_texts(figure).split(" ")) | {"axis 1"}
    assert "10 of 30 synapses in none" in figure.axes[0].get_title(loc="left")


def test_leakage_marks_stand_beyond_their_null():
    figure = leakage_panel(_leakage(0.5), EFFECT_LABELS, STYLES)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "tilt of the cleft normal",
        "section",
    ]
    heights = {float(marks.get_offsets()[0][1]) for marks in figure.axes[0].collections if len(marks.get_offsets())}
    assert len(heights) == 6


def test_few_annotated_synapses_among_many_are_large_enough_to_see():
    coordinates_n2, values_n = RNG.normal(size=(20_000, 2)), np.full(20_000, np.nan)
    values_n[:100] = RNG.normal(size=100)
    overlays = [Overlay("size", values_n)]
    unknown, known = scatter_panels(coordinates_n2, overlays).axes[0].collections
    assert known.get_sizes()[0] > 10 * unknown.get_sizes()[0]
    traces = interactive_scatter(coordinates_n2, overlays, np.arange(20_000)).data
    assert traces[1].marker.size > 3 * traces[0].marker.size


@pytest.mark.parametrize(("n_dimensions", "kind"), [(2, "scattergl"), (3, "scatter3d")])
def test_the_interactive_plane_may_be_a_space(n_dimensions, kind):
    overlay = Overlay("trait", np.array([0.0, 1.0, np.nan, 2.0]), limits=(0.0, 5.0))
    figure = interactive_scatter(RNG.normal(size=(4, n_dimensions)), [overlay], np.arange(4) + 2**60)
    assert {trace.type for trace in figure.data} == {kind}
    assert figure.data[1].marker.cmax == 5.0
    assert figure.data[1].text[0] == str(2**60)
