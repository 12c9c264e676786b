"""Columns and details of traits with several classes."""

import numpy as np
import pandas as pd
import pytest
from explorer_runs import make_synapses

from synapseclr.analysis.disk_index import build_disk_index
from synapseclr.errors import TableError
from synapseclr.explorer.answers import FewShotSearch, neighbours, synapse_details
from synapseclr.explorer.column_statistics import RunStatistics
from synapseclr.explorer.run_outputs import RunOutputs
from synapseclr.volumes import Traits

NAMES = ["acetylcholine", "GABA", "glutamate"]
TRAITS = Traits.model_validate(
    [
        {"name": "transmitter", "kind": "multiclass", "classes": NAMES, "side": "pre", "level": "neurite"},
        {"name": "spine_volume", "kind": "continuous", "column": "spine_um3", "unit": "um3", "side": "post"},
        {"name": "n_vesicles", "kind": "count", "unit": "vesicles"},
    ]
)


def outputs_of_own_traits(n=12):
    synapses = make_synapses(n, 16)
    codes = (np.arange(n) % 3).astype(float)
    synapses.obs = synapses.obs.assign(transmitter=np.where(np.arange(n) < 9, codes, np.nan))
    imputed = pd.DataFrame(
        {
            "synapse_id": synapses.obs["synapse_id"].to_numpy(),
            "transmitter_class": np.array(NAMES, dtype=object)[codes.astype(int)],
            **{
                f"transmitter_{name}_probability": np.where(codes == code, 0.7, 0.15) for code, name in enumerate(NAMES)
            },
            "spine_um3_mean": 0.25,
            "spine_um3_lower_90": 0.1,
            "spine_um3_upper_90": 0.5,
            "n_vesicles_measured_mean": 43.0,
            "n_vesicles_measured_lower_90": 20.0,
            "n_vesicles_measured_upper_90": 90.0,
        }
    )
    roots = pd.unique(synapses.obs["pre_root_id"])
    classes = pd.DataFrame(
        {
            "property": "transmitter",
            "root_id": np.repeat(roots, 3),
            "class_name": np.tile(np.array(NAMES, dtype=object), len(roots)),
            "is_called": np.tile([False, True, False], len(roots)),
        }
    )
    return RunOutputs(synapses, tables={"imputed_traits": imputed, "neurite_classes": classes}, traits=TRAITS)


def test_classes_are_columns_to_colour_and_filter_by():
    columns = outputs_of_own_traits().columns
    for name in ("transmitter", "transmitter_class", "consensus_pre_transmitter"):
        assert columns[name].class_names == tuple(NAMES)
    np.testing.assert_array_equal(columns["transmitter_class"].values_n, np.arange(12) % 3)
    assert np.isnan(columns["transmitter"].values_n[9:]).all()
    assert (columns["consensus_pre_transmitter"].values_n == 1).all()
    assert columns["transmitter_GABA_probability"].label == "P(transmitter is GABA)"


def test_details_name_the_most_probable_classes_and_units():
    outputs = outputs_of_own_traits()
    details = synapse_details(outputs, None, int(outputs.synapse_id[1]))
    traits = {row["label"]: row for row in details["traits"]}
    assert (traits["transmitter"]["annotated"], traits["transmitter"]["imputed"]) == ("GABA", "70% GABA")
    assert traits["transmitter"]["interval"] == "15% glutamate, 15% acetylcholine"
    assert traits["spine volume"]["imputed"] == "0.25 µm³"
    assert traits["number of vesicles"]["interval"] == "90 %: 20 to 90"
    shares = {row["label"]: row["set"] for row in RunStatistics(outputs).set_summary([0, 3, 6])}
    assert shares["transmitter"] == "100% acetylcholine"


def test_lazy_features_are_searched_by_the_index_of_the_run(tmp_path):
    import dask.array as da

    in_memory = RunOutputs(make_synapses(90, 16))
    synapses = make_synapses(90, 16)
    synapses.X = da.from_array(synapses.X, chunks=(50, 16))
    without = RunOutputs(synapses, index_folder=str(tmp_path / "feature_index"))
    assert without.index is None
    assert neighbours(without, 4) == []
    with pytest.raises(TableError, match="have no index yet: `kedro run --pipeline=similarity"):
        FewShotSearch(without).find([1, 4], "similar", 9)
    build_disk_index(synapses.X, tmp_path / "feature_index")
    outputs = RunOutputs(synapses, index_folder=str(tmp_path / "feature_index"))
    assert neighbours(outputs, 4) == neighbours(in_memory, 4)
    found, true = (FewShotSearch(each).find([1, 4, 7], "similar", 9) for each in (outputs, in_memory))
    np.testing.assert_array_equal(found.rows_k, true.rows_k)
    np.testing.assert_allclose(found.values_k, true.values_k, rtol=1e-6)
