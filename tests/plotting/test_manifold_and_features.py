"""Figures of manifold and features, and what stands in their place where there is nothing to draw."""

import numpy as np
import pandas as pd
import pytest

from synapseclr.analysis.features import component_traits, layer_spectra
from synapseclr.analysis.manifold.clusters import AXIS_PROFILE_COLUMNS
from synapseclr.analysis.manifold.leakage_scores import EFFECT_LABELS, LEAKAGE_COLUMNS
from synapseclr.plotting import Overlay, figure_png, interactive_scatter
from synapseclr.plotting.features import component_trait_map, correlation_map, spectrum_figure
from synapseclr.plotting.manifold import DrawnAxis, axis_profile_panels, cluster_map, leakage_panel
from synapseclr.plotting.sections.rows import section_rows
from synapseclr.plotting.traits import posterior_panels

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


def test_rows_of_sections_may_differ_in_length():
    chunks = [RNG.integers(0, 4, (k, 2, 8, 8, 1), dtype=np.uint8) for k in (3, 2)]
    figure = section_rows(chunks, ["first", "second"], [["1", "2", "3"], ["4", "5"]], (16, 16, 40), gap_after=0)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["1", "2", "3", "4", "5", ""]
    assert {text.get_text() for text in figure.texts} == {"first", "second"}
    assert figure_png(figure, dpi=40)


def test_clusters_are_numbered_and_axes_named():
    ends_22 = np.array([[0.0, 0.0], [1.0, 1.0]])
    figure = cluster_map(RNG.normal(size=(30, 2)), np.repeat([0, 1, -1], 10), [DrawnAxis("axis 1", ends_22, ends_22)])
    assert {"0", "1", "axis 1"} <= set(_texts(figure).split(" ")) | {"axis 1"}
    assert "10 of 30 synapses in none" in figure.axes[0].get_title(loc="left")


def test_leakage_marks_stand_beyond_their_null():
    figure = leakage_panel(_leakage(0.5), EFFECT_LABELS, STYLES)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "cleft's angle to the sections",
        "section",
    ]
    heights = {float(marks.get_offsets()[0][1]) for marks in figure.axes[0].collections if len(marks.get_offsets())}
    assert len(heights) == 6


def test_component_map_marks_what_is_significant():
    components_np = RNG.normal(size=(120, 2))
    obs = pd.DataFrame(
        {"pre_root_id": np.arange(120), "post_root_id": 1, "cleft_size_log1p_zscore": components_np[:, 0]}
    )
    table = component_traits(components_np, obs, "l")
    texts = _texts(component_trait_map(table, 0.05))
    assert "1.00**" in texts
    assert len(texts.split(" ")) == 2


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        (lambda: section_rows([], [], [], (1, 1, 1)), "no synapses"),
        (lambda: axis_profile_panels(pd.DataFrame(columns=list(AXIS_PROFILE_COLUMNS)), {}), "no axis"),
        (lambda: leakage_panel(_leakage(np.nan), EFFECT_LABELS, STYLES), "no technical effect"),
        (lambda: correlation_map(np.empty((0, 0)), np.empty((0, 4)), np.empty(0), "t"), "all features are constant"),
        (lambda: posterior_panels({}, {}), "no trait"),
    ],
)
def test_empty_figures_say_why(figure, said):
    assert said in _texts(figure())


def test_a_collapsed_layer_has_a_spectrum_to_draw():
    spectra = layer_spectra({"a": {"encoder.fc": np.ones((9, 4)), "projector.mlp.0": RNG.normal(size=(9, 4))}})
    assert figure_png(spectrum_figure(spectra, {}), dpi=40)


@pytest.mark.parametrize(("n_dimensions", "kind"), [(2, "scattergl"), (3, "scatter3d")])
def test_the_interactive_plane_may_be_a_space(n_dimensions, kind):
    overlay = Overlay("trait", np.array([0.0, 1.0, np.nan, 2.0]), limits=(0.0, 5.0))
    figure = interactive_scatter(RNG.normal(size=(4, n_dimensions)), [overlay], np.arange(4) + 2**60)
    assert {trace.type for trace in figure.data} == {kind}
    assert figure.data[1].marker.cmax == 5.0
    assert figure.data[1].text[0] == str(2**60)
