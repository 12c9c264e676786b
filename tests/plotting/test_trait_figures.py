"""Representations compared by traits, and grids of panels."""

import numpy as np
import pandas as pd

from synapseclr.plotting import (
    score_comparison,
)
from synapseclr.plotting.theme import figure_png, panel_grid


def test_panels_of_a_grid_are_aligned():
    _, panels = panel_grid(5, 2, (1.0, 1.0))
    places = np.array([axes.get_position().bounds for axes in panels])
    assert len(set(places[::2, 0].round(9))) == 1
    assert len({tuple(size) for size in places[:, 2:].round(9)}) == 1


def _summary_row(representation, layer, trait, metric):
    return {
        "representation": representation,
        "layer": layer,
        "trait": trait,
        "probe": "linear",
        "metric": metric,
        "mean": 0.8,
        "std": 0.05,
        "folds": 3,
    }


def test_comparison_names_traits_and_representations():
    rows = [
        _summary_row(representation, layer, trait, metric)
        for representation, layer in (("synapseclr", "encoder.fc"), ("trivial_statistics", "statistics"))
        for trait, metric in (("t", "roc_auc"), ("c", "explained_variance"))
    ]
    figure = score_comparison(pd.DataFrame(rows), {"t": "cell type", "c": "cleft size"})
    labels = [[tick.get_text() for tick in axes.get_yticklabels()] for axes in figure.axes]
    assert labels == [["cell type"], ["cleft size"]]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["SynapseCLR", "image statistics"]
    assert figure_png(figure, dpi=50).startswith(b"\x89PNG")


def test_comparison_without_scores_says_so():
    empty = pd.DataFrame(columns=list(_summary_row("", "", "", "")))
    figure = score_comparison(empty, {"t": "cell type"})
    assert figure.axes[0].texts[0].get_text() == "no trait could be scored"
    assert figure_png(figure, dpi=50).startswith(b"\x89PNG")
