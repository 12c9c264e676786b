from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synapseclr.errors import TableError, VolumeError
from synapseclr.pipelines.published_features import import_features
from synapseclr.volumes import FeatureFiles, PreprocessingConfig

CONFIG = PreprocessingConfig(voxel_size_nm=(8, 8, 40), position_voxel_size_nm=(4, 4, 40))


def imported(published, synapses=None, annotations=None, meta=None):
    return import_features(
        FeatureFiles(f"{published.output}/features", 99),
        published.meta if meta is None else meta,
        published.synapses if synapses is None else synapses,
        published.meta_ext if annotations is None else annotations,
        CONFIG,
    )


def test_features_of_all_processes_are_joined_and_duplicates_removed(published):
    embeddings = imported(published)
    np.testing.assert_array_equal(embeddings.X, published.features["encoder.fc"])
    assert set(embeddings.obsm) == {"projector.mlp.0", "projector.mlp.3"}
    np.testing.assert_array_equal(embeddings.obsm["projector.mlp.3"], published.features["projector.mlp.3"])
    assert embeddings.obs["synapse_id"].tolist() == published.meta["synapse_id"].tolist()
    assert embeddings.uns["provenance"]["n_duplicate_features"] == "3"


def test_ids_above_2_to_53_positions_and_traits_go_with_the_features(published):
    obs = imported(published).obs
    by_id = published.synapses.set_index("id").loc[published.meta["synapse_id"]]
    assert obs["pre_root_id"].tolist() == by_id["pre_root_id"].tolist()
    assert obs["centre_x_nm"].tolist() == (by_id["ctr_pos_x_vx"] * 4).tolist()
    assert obs["has_mito_pre"][:8].tolist() == [0, 1] * 4
    assert obs["mito_size_pre_vx_log1p_zscore_zi"].iloc[0] == -np.inf
    assert obs["cleft_size_log1p_zscore"][8:].isna().all()


def test_of_a_synapse_twice_the_last_features_are_kept_as_published(published):
    # Row 0 is the first of node 0 and the last of node 1.
    path = f"{published.output}/features/extracted_features__node.0__epoch.99__encoder.fc.npy"
    first = np.load(path)
    first[0] = 0
    np.save(path, first)
    assert imported(published).X[0].any()


def test_features_of_unknown_synapses_are_left_out_and_said(published, caplog):
    lost = published.meta["synapse_id"][5]
    embeddings = imported(published, published.synapses[published.synapses["id"] != lost])
    assert len(embeddings) == 11
    np.testing.assert_array_equal(embeddings.X, np.delete(published.features["encoder.fc"], 5, axis=0))
    assert f"1 synapses have features but are not in the synapse table, such as [{lost}]" in caplog.text


def test_a_missing_file_is_named(published):
    (Path(published.output) / "features/extracted_features__node.1__epoch.99__projector.mlp.0.npy").unlink()
    with pytest.raises(VolumeError, match=r"lacks extracted_features__node.1__epoch.99__projector.mlp.0.npy"):
        imported(published)


def test_rows_that_do_not_fit_their_index_array_are_named(published):
    path = f"{published.output}/features/extracted_features__node.0__epoch.99__projector.mlp.3.npy"
    np.save(path, np.load(path)[:-1])
    with pytest.raises(VolumeError, match=r"node.0__epoch.99__projector.mlp.3.npy has the shape \(7, 8\)"):
        imported(published)


def test_another_epoch_is_refused(published):
    with pytest.raises(VolumeError, match=r"of the epochs \[99\], expected epoch 50"):
        FeatureFiles(f"{published.output}/features", 50).read()


def test_a_table_with_fewer_rows_than_the_features_is_refused(published):
    with pytest.raises(TableError, match=r"name row 11, but meta.csv has 11 rows"):
        imported(published, meta=published.meta[:11])


def test_annotations_in_the_published_form_are_taken_as_they_are(published):
    scales = pd.DataFrame(published.meta_ext)
    obs = imported(published, annotations=scales).obs
    np.testing.assert_array_equal(obs["cleft_size_log1p_zscore"][:8], published.meta_ext["cleft_size_log1p_zscore"])
