"""Correlations, spectra, and components against traits; figures that have nothing to show."""

import numpy as np
import pandas as pd
import pytest

from synapseclr.analysis.features import component_traits, layer_spectra
from synapseclr.analysis.leakage_scores import EFFECT_LABELS, LEAKAGE_COLUMNS
from synapseclr.analysis.manifold import AXIS_PROFILE_COLUMNS
from synapseclr.plotting import (
    figure_png,
)
from synapseclr.plotting.features import component_trait_map, correlation_map, spectrum_figure
from synapseclr.plotting.manifold import axis_profile_panels, leakage_panel
from synapseclr.plotting.sections import section_rows
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


def test_component_map_marks_what_is_significant():
    components_np = RNG.normal(size=(120, 2))
    obs = pd.DataFrame(
        {"pre_root_id": np.arange(120), "post_root_id": 1, "cleft_size_log1p_zscore": components_np[:, 0]}
    )
    table = component_traits(components_np, obs, "l")
    texts = _texts(component_trait_map(table, 0.05))
    assert "1.00**" in texts
    assert len(texts.split(" ")) == 2


def test_a_collapsed_layer_has_a_spectrum_to_draw():
    spectra = layer_spectra({"a": {"encoder.fc": np.ones((9, 4)), "projector.mlp.0": RNG.normal(size=(9, 4))}})
    assert figure_png(spectrum_figure(spectra, {}), dpi=40)


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
