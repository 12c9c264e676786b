"""Columns and details of traits with several classes."""

import numpy as np
import pandas as pd
from explorer_runs import make_synapses

from synapseclr.explorer.answers import set_summary, synapse_details
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
    assert traits["spine volume"]["imputed"] == "0.250 µm³"
    assert traits["n vesicles"]["interval"] == "90 %: 20 to 90"
    shares = {row["label"]: row["set"] for row in set_summary(outputs, [0, 3, 6])}
    assert shares["transmitter"] == "100% acetylcholine"
