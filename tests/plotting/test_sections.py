"""EM sections with masks, alone, in rows and as augmented pairs."""

import numpy as np
import pytest

from synapseclr.plotting import (
    augmented_pairs,
    contact_sheet,
    figure_png,
    synapse_section,
)
from synapseclr.plotting.sections import mask_overlay, richest_section, scale_bar_length_nm, section_rows, view_picture
from synapseclr.plotting.theme import MASK_COLOURS

VOXEL_SIZE_NM = (8.0, 8.0, 40.0)


def test_augmented_pairs_show_synapse_and_two_views(chunk_ncxyz):
    intensity_nvcxyz = np.random.default_rng(0).random((8, 2, 2, 10, 10, 10), dtype=np.float32)
    cleft_nvxyz = np.zeros((8, 2, 10, 10, 10), dtype=bool)
    figure = augmented_pairs(chunk_ncxyz, intensity_nvcxyz, cleft_nvxyz, VOXEL_SIZE_NM, range(8))
    assert len(figure.axes) == 24
    assert [axes.get_title(loc="left") for axes in figure.axes[3:6]] == ["1", "", ""]
    assert figure_png(figure, dpi=50).startswith(b"\x89PNG")


def test_a_view_shows_the_section_with_most_cleft_and_one_channel_in_grey():
    intensity_cxyz = np.random.default_rng(0).random((1, 6, 4, 5), dtype=np.float32)
    cleft_xyz = np.zeros((6, 4, 5), dtype=bool)
    cleft_xyz[2:4, 2, 1] = True
    picture = view_picture(intensity_cxyz, cleft_xyz)
    np.testing.assert_array_equal(picture, np.repeat(intensity_cxyz[0, :, :, 1].T[..., None], 3, axis=2))
    two = view_picture(np.concatenate([intensity_cxyz, 0 * intensity_cxyz]), cleft_xyz)
    assert not two[..., 1].any()
    np.testing.assert_array_equal(two[..., 0], picture[..., 0])


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
    assert figure_png(figure, dpi=50).startswith(b"\x89PNG")


def test_contact_sheet_has_one_panel_per_synapse(chunk_ncxyz):
    figure = contact_sheet(chunk_ncxyz, VOXEL_SIZE_NM, [str(n) for n in range(8)], columns=3)
    assert len(figure.axes) == 8
    assert figure_png(figure, dpi=50).startswith(b"\x89PNG")


def test_rows_of_sections_may_differ_in_length():
    chunks = [np.random.default_rng(0).integers(0, 4, (k, 2, 8, 8, 1), dtype=np.uint8) for k in (3, 2)]
    figure = section_rows(chunks, ["first", "second"], [["1", "2", "3"], ["4", "5"]], (16, 16, 40), gap_after=0)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["1", "2", "3", "4", "5", ""]
    assert {text.get_text() for text in figure.texts} == {"first", "second"}
    assert figure_png(figure, dpi=40)
