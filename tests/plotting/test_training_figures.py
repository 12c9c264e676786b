"""Training curves, and histograms of preprocessing."""

import numpy as np
import pandas as pd
import pytest

from synapseclr.analysis.morphometry import MORPHOMETRY_LABELS
from synapseclr.plotting import (
    figure_png,
    morphometry_histograms,
    preprocessing_histograms,
    training_curve,
    training_figure,
)


@pytest.fixture
def history():
    epochs = np.arange(4)
    return pd.DataFrame(
        {
            "epoch": epochs,
            "train_loss": 4.0 - epochs,
            "validation_loss": 4.5 - epochs,
            "learning_rate": 1e-3,
            "alignment": 0.5,
            "uniformity": -2.0,
            "effective_rank": 5.0 + epochs,
            "knn_pre_cell_type": 0.6,
            "knn_post_cell_type": np.nan,
        }
    )


def test_training_curves_show_what_was_recorded(history):
    names = [trace.name for trace in training_curve(history).data]
    assert names == [
        "training",
        "validation",
        "learning rate",
        "presynaptic cell type",
        "alignment",
        "uniformity",
        "effective rank",
    ]
    assert figure_png(training_figure(history), dpi=50).startswith(b"\x89PNG")


def test_a_probe_that_is_not_taken_at_every_epoch_is_drawn(history):
    history["knn_pre_cell_type"] = [np.nan, 0.6, np.nan, 0.7]
    trace = next(trace for trace in training_curve(history).data if trace.name == "presynaptic cell type")
    assert (list(trace.x), list(trace.y), trace.mode) == ([1, 3], [0.6, 0.7], "lines")
    probes = next(axes for axes in training_figure(history).axes if "k-NN" in axes.get_title(loc="left"))
    assert probes.lines[0].get_xydata().tolist() == [[1, 0.6], [3, 0.7]]


def test_training_curves_of_one_epoch_without_annotations(history):
    short = history.head(1)[["epoch", "train_loss"]]
    assert [trace.mode for trace in training_curve(short).data] == ["markers"]
    assert figure_png(training_figure(short), dpi=50).startswith(b"\x89PNG")


def test_histograms_of_a_report():
    report = {
        "cutout_sections": {"0": 20, "3": 2},
        "intensity": {"mean": 0.5, "std": 0.1, "zero_fraction": 0.0, "histogram": [1, 5, 1]},
        "rejected": {"17": "no cleft nearby"},
        "n_padded": 4,
        "n_chunks": 22,
    }
    figure = preprocessing_histograms(report)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "Missing sections",
        "Intensity",
        "Flagged and rejected",
    ]
    assert "rejected: no cleft nearby" in [label.get_text() for label in figure.axes[2].get_yticklabels()]
    assert figure_png(figure, dpi=50).startswith(b"\x89PNG")


def test_an_empty_report_is_said_to_be_empty():
    figure = preprocessing_histograms({})
    assert [text.get_text() for text in figure.axes[0].texts] == ["not recorded"]
    assert figure_png(figure, dpi=50).startswith(b"\x89PNG")


def test_sizes_are_drawn_in_their_units_without_the_largest_one():
    sizes = pd.DataFrame({name: np.linspace(1e5, 2e5, 400) for name in MORPHOMETRY_LABELS})
    sizes.loc[0, "cleft_area_nm2"] = 9e9
    sizes["post_border_share"] = np.nan
    figure = morphometry_histograms(sizes)
    area, share = figure.axes[0], figure.axes[-1]
    assert area.get_xlabel() == "cleft area (nm²)"
    assert area.get_xlim()[1] < 3e5
    assert [text.get_text() for text in share.texts] == ["none"]
    assert figure_png(figure, dpi=50).startswith(b"\x89PNG")


@pytest.mark.parametrize("size", [0.0, 1.0, 1e5])
def test_sizes_that_differ_by_rounding_alone_are_drawn(size):
    values_n = np.full(50, size)
    values_n[::2] = np.nextafter(size, 2e5)
    figure = morphometry_histograms(pd.DataFrame(dict.fromkeys(MORPHOMETRY_LABELS, values_n)))
    assert max(bar.get_height() for bar in figure.axes[0].patches) == 50
