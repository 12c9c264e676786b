"""Training helps: on the demo's volume, with a sixth of its epochs, half of its poses and one draw of the folds."""

import pandas as pd
import pytest


@pytest.fixture(scope="module")
def scores(make_runner, tmp_path_factory):
    """Scores of the linear probe: mean over folds, traits by representations."""
    run = make_runner(tmp_path_factory.mktemp("learning"), environment="local")
    fast = "pretraining.epochs=12,embedding.n_rotations=4,imputation.n_fold_draws=1"
    fast += ",imputation.compare_by_gaussian_process=false"
    run("--pipeline=demo", "--to-nodes=score_traits", f"--params={fast}")
    table = pd.read_csv(run.root / "08_reporting/trait_scores.csv")
    chosen = table[(table["probe"] == "linear") & table["layer"].isin(["encoder.fc", "statistics"])]
    return chosen.pivot_table("score", "trait", "representation")


CLASSES = ["pre_cell_type", "post_cell_type", "has_mito_pre", "has_mito_post"]


def test_trained_features_beat_the_same_encoder_untrained(scores):
    gain = (scores["synapseclr"] - scores["random"])[[*CLASSES, "cleft_size_log1p_zscore"]]
    assert gain.mean() > 0.015
    assert (gain > -0.01).all()


def test_an_untrained_encoder_that_pools_over_regions_beats_one_convolution(scores):
    assert (scores["random"] - scores["random_convolution"])[CLASSES].mean() > 0.03


def test_features_beside_mask_statistics_are_no_worse_than_the_better_of_both(scores):
    better = scores[["synapseclr", "mask_statistics"]].max(axis=1)
    assert (scores["synapseclr+statistics"] - better)[CLASSES].mean() > -0.01
