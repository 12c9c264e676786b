"""Figures of what was searched for: neighbours and defects."""

import numpy as np
import pandas as pd
import pytest

from synapseclr.analysis.outliers import OutliersConfig, evaluate_detection
from synapseclr.pipelines.outliers.nodes import describe_candidates
from synapseclr.plotting import (
    detection_figure,
    distance_panels,
    figure_png,
    neighbour_strips,
)
from synapseclr.plotting.theme import representation_labels

VOXEL_SIZE_NM = (8.0, 8.0, 40.0)
PNG = b"\x89PNG"


@pytest.fixture
def detection():
    features_nf = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    defect_n = np.array(["merged_segmentation"] * 6 + ["blackout"] * 6 + [""] * 48)
    config = OutliersConfig(n_draws=3)
    return evaluate_detection({"synapseclr": {"encoder.fc": features_nf}}, defect_n, config)


def test_strips_begin_with_the_query(chunk_ncxyz):
    ids_qk = np.arange(6).reshape(2, 3)
    figure = neighbour_strips([chunk_ncxyz[:3], chunk_ncxyz[3:6]], ids_qk, np.ones((2, 2)), VOXEL_SIZE_NM)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["0\nquery", "1\nd = 1", "2\nd = 1", "3\nquery", "4\nd = 1", "5\nd = 1"]
    assert figure_png(figure, dpi=50).startswith(b"\x89PNG")


def test_examples_of_a_query_stand_first_and_framed():
    chunk_kcxyz = np.zeros((5, 2, 8, 8, 2), np.uint8)
    ids_qk = np.array([[10, 11, 12, 13, 14]])
    figure = neighbour_strips([chunk_kcxyz], ids_qk, np.array([[1.0, 2.0, 3.0]]), (16.0, 16.0, 40.0), n_examples=2)
    titles = [axes.get_title(loc="left").split("\n")[1] for axes in figure.axes]
    assert titles == ["query", "query", "d = 1", "d = 2", "d = 3"]
    widths = [axes.spines["left"].get_linewidth() for axes in figure.axes]
    assert min(widths[:2]) > max(widths[2:])


@pytest.mark.parametrize("n_queries", [1, 4])
def test_distances_have_a_panel_per_query(n_queries):
    names = [str(number) for number in range(n_queries)]
    bins = pd.DataFrame({"distance_from": [0.0, 1.0], "distance_to": [1.0, 2.0], "n_synapses": [3, 5]})
    histograms = pd.concat([bins.assign(query=name) for name in names])
    results = pd.DataFrame({"query": np.repeat(names, 3), "rank": [0, 1, 2] * n_queries, "distance": 0.5})
    figure = distance_panels(histograms, results)
    drawn = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title(loc="left") for axes in drawn] == names
    assert [patch.get_height() for patch in drawn[0].patches] == [3, 5]
    assert len(drawn[0].collections[0].get_positions()) == 2
    assert figure_png(figure).startswith(PNG)


def test_detection_shows_scores_by_examples_and_kind(detection):
    figure = detection_figure(detection)
    left, _, right = figure.axes
    assert [label.get_text() for label in left.get_xticklabels()] == ["none", "1", "5"]
    assert [label.get_text() for label in right.get_yticklabels()] == ["blackout", "merged segmentation"]
    overall = detection[(detection["kind"] == "all kinds") & (detection["metric"] == "roc_auc")]
    five = overall.loc[(overall["method"] == "examples") & (overall["n_examples"] == 5), "mean"].item()
    assert left.lines[0].get_ydata()[-1] == pytest.approx(five)
    assert figure_png(figure).startswith(PNG)


@pytest.mark.parametrize(
    ("provenance", "label"), [({"weights_sha256": "a"}, "SynapseCLR"), ({"simulation": "{}"}, "simulated features")]
)
def test_features_are_called_by_their_provenance(detection, provenance, label):
    figure = detection_figure(detection, representation_labels(provenance))
    assert label in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_no_known_defects_are_said_to_be_none(detection):
    texts = [text.get_text() for axes in detection_figure(detection[:0]).axes for text in axes.texts]
    assert texts == ["no defects are known here"]


@pytest.mark.parametrize(
    ("n_synapses", "said"),
    [
        (60, "The simulation made 12 of the synapses defective."),
        (4_000, "Of 60 synapses, drawn from all 4,000 at random, the simulation made 12 defective."),
    ],
)
def test_section_tells_which_synapses_the_detection_was_measured_on(detection, n_synapses, said):
    candidates = pd.DataFrame({"is_example": [False], "is_accepted": [False]})
    config = OutliersConfig(n_evaluated=60)
    section = describe_candidates(candidates, detection, None, None, config, {}, n_synapses)
    assert said in " ".join(section.text)
