"""Occlusion: what is made grey, which synapses, and whether effects appear where the signal was put."""

import numpy as np
import pandas as pd
import pytest

from synapseclr.analysis.config import OcclusionConfig
from synapseclr.analysis.occlusion import (
    OCCLUSION_EFFECTS,
    OCCLUSION_PATCHES,
    REGIONS,
    choose_synapses,
    explain,
    followed_traits,
    occlude,
    patch_windows,
    summarise_effects,
)
from synapseclr.analysis.traits import Trait, trait_named
from synapseclr.errors import TableError

SHAPE = (12, 10, 6)
FIRST_ID = 2**60 + 1
TRAITS = [trait_named("pre_cell_type"), trait_named("cleft_size_log1p_zscore")]
CONFIG = OcclusionConfig(n_synapses=12, n_patch_synapses=2, n_patches=(3, 2, 2), batch_size=5)


def _masks():
    codes = np.zeros(SHAPE, np.uint8)
    codes[:5, 2:8], codes[5:7, 2:8], codes[7:, 2:8] = 1, 2, 3
    return codes


def _dataset(where, n=120):
    """Chunks of noise; the presynaptic type is stripes in one region, of the same mean grey as the noise."""
    rng = np.random.default_rng(0)
    codes = _masks()
    stripes = np.where(np.arange(SHAPE[2]) % 2 == 0, 60, -60)[None, None, :]
    is_striped_n = np.arange(n) % 2 == 1
    chunks = np.empty((n, 2, *SHAPE), np.uint8)
    for row in range(n):
        image = 128 + rng.integers(-10, 11, SHAPE)
        image = np.where((codes == REGIONS[where]) & is_striped_n[row], image + stripes, image)
        chunks[row] = image, codes
    obs = pd.DataFrame(
        {
            "synapse_id": FIRST_ID + np.arange(n),
            "pre_root_id": np.uint64(2**63) + (np.arange(n) // 2).astype(np.uint64),
            "post_root_id": np.arange(n),
            "pre_cell_type": np.where(np.arange(n) % 10 == 9, np.nan, is_striped_n),
        }
    )
    return chunks, obs


def _features(chunks_ncxyz):
    """Contrast from section to section under every mask: what an encoder might see, without training one."""
    steps = np.abs(np.diff(chunks_ncxyz[:, 0].astype(float), axis=-1))
    codes = chunks_ncxyz[:, 1, ..., 1:]
    contrast = [
        np.array([step[code == value].mean() for step, code in zip(steps, codes, strict=True)]) for value in range(4)
    ]
    return np.stack([*contrast, np.ones(len(chunks_ncxyz))], axis=1).astype(np.float32)


def _embed(batches):
    return np.concatenate([_features(batch) for batch in batches])


def _explained(where, config=CONFIG):
    chunks, obs = _dataset(where)
    sizes = []

    def embed(batches):
        found = []
        for batch in batches:
            sizes.append(len(batch))
            found.append(_features(batch))
        return np.concatenate(found)

    found = explain(lambda row: chunks[row], embed, _features(chunks), obs, TRAITS, config)
    return found, obs, sizes


@pytest.mark.parametrize("where", list(REGIONS))
def test_a_trait_reacts_to_the_region_that_shows_it_and_to_no_other(where):
    found, _, sizes = _explained(where)
    effects = OCCLUSION_EFFECTS.validate(found.effects)
    assert set(effects["trait"]) == {"pre_cell_type"}  # no cleft size is annotated
    striped = effects[effects["group"] == "inhibitory"]
    assert len(striped) == 6
    others = [region for region in REGIONS if region != where]
    assert (striped["score"] > 2).all()
    assert (striped[f"{where}_change"] < -2).all()
    assert (striped[f"{where}_distance"] > 0.01).all()
    for region in others:
        # Greyness has no noise either, which an encoder may notice.
        assert striped[f"{region}_change"].abs().max() < 0.25 * striped[f"{where}_change"].abs().min()
    assert max(sizes) == CONFIG.batch_size


def test_patches_show_where_the_trait_lies():
    found, _, _ = _explained("presynaptic")
    patches = OCCLUSION_PATCHES.validate(found.patches)
    assert patches["synapse_id"].nunique() == 2
    striped = found.effects.set_index("synapse_id").query("group == 'inhibitory'").index
    of_one = patches[patches["synapse_id"].isin(striped)]
    near, far = of_one[of_one["stop_x"] <= 4], of_one[of_one["start_x"] >= 8]
    assert near["change"].max() < -0.5 < far["change"].min()
    assert far["change"].abs().max() < 0.25 * near["change"].abs().min()


def test_only_patches_that_hold_a_mask_are_tried():
    found, _, _ = _explained("presynaptic", CONFIG.model_copy(update={"n_patches": (3, 10, 2)}))
    assert found.patches["start_y"].min() == 2
    assert found.patches["stop_y"].max() == 8


def test_the_probe_has_not_seen_the_explained_neurites():
    chunks, obs = _dataset("presynaptic")
    obs["pre_root_id"] = 7  # every synapse is of one neurite, so that nothing is left to learn from
    found = explain(
        lambda row: chunks[row], lambda b: _features(np.concatenate(list(b))), _features(chunks), obs, TRAITS, CONFIG
    )
    assert found.effects.empty
    assert found.patches.empty


def test_a_region_takes_its_own_mean_and_nothing_else_changes():
    chunk = _dataset("cleft")[0][1]
    chunk[0, 5, 2, 0] = 0  # missing data
    hidden = chunk[1] == 2
    occluded = occlude(chunk, hidden)
    seen = hidden & (chunk[0] > 0)
    assert set(occluded[0][seen]) == {round(float(chunk[0][seen].mean()))}
    assert occluded[0, 5, 2, 0] == 0
    np.testing.assert_array_equal(occluded[0][~hidden], chunk[0][~hidden])
    np.testing.assert_array_equal(occluded[1], chunk[1])
    assert len(set(chunk[0][seen])) > 1  # the original is as it was


def test_an_empty_region_leaves_the_image():
    chunk = _dataset("cleft")[0][0]
    np.testing.assert_array_equal(occlude(chunk, np.zeros(SHAPE, bool)), chunk)


def test_patches_cover_every_voxel_once():
    counts = np.zeros(SHAPE, int)
    windows = patch_windows(SHAPE, (5, 3, 20))
    for window in windows:
        counts[window] += 1
    assert (counts == 1).all()
    assert len(windows) == 5 * 3 * 6


def test_classes_take_turns_and_named_synapses_come_first(caplog):
    _, obs = _dataset("cleft")
    rows = choose_synapses(obs, TRAITS, CONFIG)
    assert obs["pre_cell_type"].iloc[rows].tolist() == [0.0, 1.0] * 6
    named = CONFIG.model_copy(update={"synapses": (FIRST_ID + 5, 3, FIRST_ID + 5)})
    assert choose_synapses(obs, TRAITS, named).tolist() == [5]
    assert "no synapse 3" in caplog.text


def test_without_annotations_synapses_are_drawn_and_without_synapses_nothing_is_read():
    _, obs = _dataset("cleft")
    bare = obs.drop(columns="pre_cell_type")
    assert len(choose_synapses(bare, TRAITS, CONFIG)) == 12
    none = CONFIG.model_copy(update={"n_synapses": 0})
    found = explain(
        lambda row: pytest.fail("read"), lambda b: pytest.fail("embedded"), np.zeros((120, 3)), obs, TRAITS, none
    )
    assert OCCLUSION_EFFECTS.validate(found.effects).empty
    assert OCCLUSION_PATCHES.validate(found.patches).empty
    assert summarise_effects(found.effects).empty


def test_intervals_hold_the_mean():
    found, _, _ = _explained("cleft")
    summary = summarise_effects(found.effects)
    assert len(summary) == 2 * len(REGIONS)
    assert (summary["change_lower_90"] <= summary["change"] + 1e-9).all()
    assert (summary["change"] <= summary["change_upper_90"] + 1e-9).all()


def test_each_class_of_many_is_followed_against_the_rest():
    trait = Trait(name="kind", kind="multiclass", classes=("plain", "striped", "absent"), group="pre_root_id")
    chunks, obs = _dataset("presynaptic")
    obs["kind"] = obs["pre_cell_type"]
    found = explain(chunks.__getitem__, _embed, _features(chunks), obs, [trait], CONFIG)
    assert set(found.effects["trait"]) == {"kind_plain", "kind_striped"}  # nothing is learned of a class without any
    striped = found.effects.query("trait == 'kind_striped' and group == 'striped'")
    assert (striped["presynaptic_change"] < -2).all()


def test_traits_are_those_named_or_the_first_two_with_classes():
    assert [trait.name for trait in followed_traits(TRAITS, CONFIG)] == ["pre_cell_type"]
    named = CONFIG.model_copy(update={"traits": ("cleft_size_log1p_zscore",)})
    assert [trait.name for trait in followed_traits(TRAITS, named)] == ["cleft_size_log1p_zscore"]
    with pytest.raises(TableError, match="Unknown trait 'size'"):
        followed_traits(TRAITS, CONFIG.model_copy(update={"traits": ("size",)}))
