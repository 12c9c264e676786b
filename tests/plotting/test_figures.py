"""Figures are returned with the axes that they promise, and render without a display."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from synapseclr.plotting import (
    Overlay,
    augmented_pairs,
    contact_sheet,
    figure_png,
    interactive_scatter,
    neighbour_strips,
    preprocessing_histograms,
    scatter_panels,
    score_comparison,
    synapse_section,
    training_curve,
    training_figure,
)
from synapseclr.plotting.manifold import marker_area
from synapseclr.plotting.sections import mask_overlay, richest_section, scale_bar_length_nm, view_picture
from synapseclr.plotting.theme import MASK_COLOURS, panel_grid

VOXEL_SIZE_NM = (8.0, 8.0, 40.0)


@pytest.fixture
def chunk_ncxyz():
    rng = np.random.default_rng(0)
    chunk_ncxyz = rng.integers(1, 256, (8, 2, 24, 16, 6), dtype=np.uint8)
    chunk_ncxyz[:, 1] = 0
    chunk_ncxyz[:, 1, 4:8, 4:8, 3] = 2
    chunk_ncxyz[:, 1, 4:7, 4:7, 4] = 2
    return chunk_ncxyz


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


def test_augmented_pairs_show_synapse_and_two_views(chunk_ncxyz):
    intensity_nvcxyz = np.random.default_rng(0).random((8, 2, 2, 10, 10, 10), dtype=np.float32)
    cleft_nvxyz = np.zeros((8, 2, 10, 10, 10), dtype=bool)
    figure = augmented_pairs(chunk_ncxyz, intensity_nvcxyz, cleft_nvxyz, VOXEL_SIZE_NM, range(8))
    assert len(figure.axes) == 24
    assert [axes.get_title(loc="left") for axes in figure.axes[3:6]] == ["1", "view 1", "view 2"]
    assert _renders(figure)


def test_a_view_shows_the_section_with_most_cleft_and_one_channel_in_grey():
    intensity_cxyz = np.random.default_rng(0).random((1, 6, 4, 5), dtype=np.float32)
    cleft_xyz = np.zeros((6, 4, 5), dtype=bool)
    cleft_xyz[2:4, 2, 1] = True
    picture = view_picture(intensity_cxyz, cleft_xyz)
    np.testing.assert_array_equal(picture, np.repeat(intensity_cxyz[0, :, :, 1].T[..., None], 3, axis=2))
    two = view_picture(np.concatenate([intensity_cxyz, 0 * intensity_cxyz]), cleft_xyz)
    assert not two[..., 1].any()
    np.testing.assert_array_equal(two[..., 0], picture[..., 0])


def _renders(figure):
    assert isinstance(figure, Figure)
    assert figure_png(figure, dpi=50).startswith(b"\x89PNG")
    return True


def test_richest_section_has_most_cleft(chunk_ncxyz):
    assert richest_section(chunk_ncxyz[0]) == 3


def test_cut_out_sections_are_not_shown(chunk_ncxyz):
    chunk_ncxyz[0, 0, :, :, 3] = 0
    assert richest_section(chunk_ncxyz[0]) == 4


def test_central_section_stands_in_where_there_is_no_cleft(chunk_ncxyz):
    assert richest_section(chunk_ncxyz[0] * np.uint8(0)) == 3


def test_masks_have_the_published_colours_and_image_orientation():
    mask_xy = np.zeros((5, 3), np.uint8)
    mask_xy[4, 1] = 3
    overlay = mask_overlay(mask_xy)
    assert overlay.shape == (3, 5, 4)
    np.testing.assert_allclose(overlay[1, 4, :3] * 255, MASK_COLOURS[3])
    assert overlay[0, 0, 3] == 0


@pytest.mark.parametrize(("width_nm", "bar_nm"), [(2048, 500), (1536, 500), (500, 100), (10, 20)])
def test_scale_bar_is_round_and_fits(width_nm, bar_nm):
    assert scale_bar_length_nm(width_nm) == bar_nm


def test_section_of_a_synapse_has_two_axes_in_nanometres(chunk_ncxyz):
    figure = synapse_section(chunk_ncxyz[0], VOXEL_SIZE_NM, "1")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["1", "section 3 of 6"]
    assert figure.axes[0].get_xlim() == (0.0, 24 * 8.0)
    assert figure.axes[0].get_ylim() == (16 * 8.0, 0.0)
    assert _renders(figure)


def test_contact_sheet_has_one_panel_per_synapse(chunk_ncxyz):
    figure = contact_sheet(chunk_ncxyz, VOXEL_SIZE_NM, [str(n) for n in range(8)], columns=3)
    assert len(figure.axes) == 8
    assert _renders(figure)


def test_strips_begin_with_the_query(chunk_ncxyz):
    ids_qk = np.arange(6).reshape(2, 3)
    figure = neighbour_strips([chunk_ncxyz[:3], chunk_ncxyz[3:6]], ids_qk, np.ones((2, 2)), VOXEL_SIZE_NM)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["0\nquery", "1\nd = 1", "2\nd = 1", "3\nquery", "4\nd = 1", "5\nd = 1"]
    assert _renders(figure)


def test_panels_of_a_grid_are_aligned():
    _, panels = panel_grid(5, 2, (1.0, 1.0))
    places = np.array([axes.get_position().bounds for axes in panels])
    assert len(set(places[::2, 0].round(9))) == 1
    assert len({tuple(size) for size in places[:, 2:].round(9)}) == 1


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
    assert _renders(figure)

    interactive = interactive_scatter(coordinates_n2, overlays, np.arange(4) + 2**60)
    assert len(interactive.data) == 6
    assert interactive.data[1].text[0] == str(2**60)
    assert [button.label for button in interactive.layout.updatemenus[0].buttons] == ["type", "size", "nothing"]
    assert [trace.visible for trace in interactive.data[:3]] == [True, True, False]


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
        "Cut-out sections",
        "Intensity",
        "Flagged and rejected",
    ]
    assert "rejected: no cleft nearby" in [label.get_text() for label in figure.axes[2].get_yticklabels()]
    assert _renders(figure)


def test_an_empty_report_is_said_to_be_empty():
    figure = preprocessing_histograms({})
    assert [text.get_text() for text in figure.axes[0].texts] == ["not recorded"]
    assert _renders(figure)


def test_training_curves_show_what_was_recorded(history):
    names = [trace.name for trace in training_curve(history).data]
    assert names == [
        "training",
        "validation",
        "learning rate",
        "pre cell type",
        "alignment",
        "uniformity",
        "effective rank",
    ]
    assert _renders(training_figure(history))


def test_a_probe_that_is_not_taken_at_every_epoch_is_drawn(history):
    history["knn_pre_cell_type"] = [np.nan, 0.6, np.nan, 0.7]
    trace = next(trace for trace in training_curve(history).data if trace.name == "pre cell type")
    assert (list(trace.x), list(trace.y), trace.mode) == ([1, 3], [0.6, 0.7], "lines")
    probes = next(axes for axes in training_figure(history).axes if "k-NN" in axes.get_title(loc="left"))
    assert probes.lines[0].get_xydata().tolist() == [[1, 0.6], [3, 0.7]]


def test_training_curves_of_one_epoch_without_annotations(history):
    short = history.head(1)[["epoch", "train_loss"]]
    assert [trace.mode for trace in training_curve(short).data] == ["markers"]
    assert _renders(training_figure(short))


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
    assert _renders(figure)


def test_comparison_without_scores_says_so():
    empty = pd.DataFrame(columns=list(_summary_row("", "", "", "")))
    figure = score_comparison(empty, {"t": "cell type"})
    assert figure.axes[0].texts[0].get_text() == "no trait could be scored"
    assert _renders(figure)
