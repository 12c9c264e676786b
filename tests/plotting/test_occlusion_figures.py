import numpy as np
import pandas as pd
import pytest

from synapseclr.analysis.occlusion import OCCLUSION_EFFECTS, OCCLUSION_PATCHES, REGIONS, summarise_effects
from synapseclr.plotting import figure_png
from synapseclr.plotting.occlusion import occlusion_bars, occlusion_maps

SHAPE = (12, 10, 6)


def _effects(groups=("excitatory", "inhibitory")):
    rng = np.random.default_rng(0)
    n = 10 * len(groups)
    table = pd.DataFrame(
        {
            "synapse_id": np.arange(n),
            "trait": "pre_cell_type",
            "label": "presynaptic cell type",
            "group": np.repeat(groups, 10),
            "neurite": np.arange(n) // 2,
            "score": rng.normal(size=n),
        }
    )
    for number, region in enumerate(REGIONS):
        table[f"{region}_change"] = number + 0.1 * rng.normal(size=n)
        table[f"{region}_distance"] = 0.1 * (number + 1)
    return table


@pytest.mark.parametrize("groups", [("excitatory", "inhibitory"), ("L2", "L4", "L5", "PV", "SST")])
def test_bars_have_the_means_of_every_group(groups):
    figure = occlusion_bars(summarise_effects(_effects(groups)))
    change, distance = (axes for axes in figure.axes if axes.has_data())
    heights = [bar.get_height() for bar in change.patches]
    assert len(heights) == 3 * len(groups)
    np.testing.assert_allclose(np.reshape(heights, (-1, 3)), np.tile([0, 1, 2], (len(groups), 1)), atol=0.2)
    np.testing.assert_allclose([bar.get_height() for bar in distance.patches][:3], [0.1, 0.2, 0.3])
    assert [text.get_text() for text in change.get_xticklabels()] == list(REGIONS)
    assert figure_png(figure, dpi=50).startswith(b"\x89PNG")


def test_maps_colour_the_patch_that_matters():
    chunk = np.full((2, *SHAPE), 128, np.uint8)
    chunk[1] = 0
    chunk[1, 4:6, 2:8, 2:5], chunk[1, :4, 2:8], chunk[1, 6:, 2:8] = 2, 1, 3
    boxes = [(0, 6, 0, 10, 0, 6), (6, 12, 0, 10, 0, 6)]
    columns = [f"{end}_{axis}" for axis in "xyz" for end in ("start", "stop")]
    patches = pd.DataFrame(boxes, columns=columns).assign(synapse_id=7, trait="pre_cell_type", change=[-2.0, 0.0])
    figure = occlusion_maps(patches, {7: chunk}, (16.0, 16.0, 40.0))
    sections = [axes for axes in figure.axes if axes.get_title(loc="left").startswith("section")]
    assert len(sections) == 3
    shown = sections[1].images[-1]
    assert shown.get_clim() == (-2.0, 2.0)
    assert (shown.get_array()[:, :6] == -2).all()
    opacity = shown.get_alpha()
    assert (opacity[:, :6] > 0.5).all()
    assert (opacity[:, 6:] == 0).all()
    assert figure_png(figure, dpi=50).startswith(b"\x89PNG")


def test_nothing_explained_is_said():
    for figure in (
        occlusion_bars(summarise_effects(pd.DataFrame(columns=list(OCCLUSION_EFFECTS.columns)))),
        occlusion_maps(pd.DataFrame(columns=list(OCCLUSION_PATCHES.columns)), {}, (16.0, 16.0, 40.0)),
    ):
        assert [text.get_text() for text in figure.axes[0].texts] == ["No synapse was explained."]
