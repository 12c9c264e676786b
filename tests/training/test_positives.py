import pickle

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from synapseclr.errors import ConfigurationError, TableError
from synapseclr.training import PretrainingConfig
from synapseclr.training.positives import (
    NeuritePartners,
    NeuriteTable,
    PositivesConfig,
    leakage_warning,
    make_partners,
)

N = 240


def same_neurite(**parameters):
    return PositivesConfig(kind="same_neurite", **parameters)


@pytest.fixture(scope="module")
def table():
    """Few neurites for many synapses, so that pairs sharing two neurites are common; 0 is no neurite; one neurite is
    presynaptic and postsynaptic; a third of the neurites is annotated."""
    rng = np.random.default_rng(1)
    pre, post = (rng.integers(0, 25, N).astype(np.uint64) + np.uint64(2**63) for _ in range(2))
    pre[:5], post[3:9] = 0, 0
    annotated = np.unique(np.concatenate([pre, post]))[1::3]
    return NeuriteTable(pre, post, rng.uniform(0, 20_000, (N, 3)), np.append(annotated, np.uint64(0)))


TRAINING = np.setdiff1d(np.arange(N), np.arange(0, N, 7))


def allowed_pairs(table, config):
    """Ordered pairs (a, b, side) by the definition, one synapse after the other."""
    roots = list(zip(table.pre_root_id.tolist(), table.post_root_id.tolist(), strict=True))
    annotated = set() if config.pair_annotated_neurites else set(table.annotated_root_ids.tolist()) - {0}
    found = set()
    for a in TRAINING.tolist():
        for b in TRAINING.tolist():
            apart_um = np.linalg.norm(table.centre_nd_nm[a] - table.centre_nd_nm[b]) / 1000
            if a == b or set(roots[a]) & set(roots[b]) & annotated:
                continue
            if config.max_distance_um is not None and apart_um > config.max_distance_um:
                continue
            for side in {"pre": (0,), "post": (1,), "both": (0, 1)}[config.neurite]:
                if roots[a][side] == roots[b][side] != 0:
                    found.add((a, b, side))
    return found


@pytest.mark.parametrize("neurite", ["pre", "post", "both"])
@pytest.mark.parametrize("parameters", [{}, {"max_distance_um": 6}, {"pair_annotated_neurites": True}])
def test_candidates_and_counts_are_those_of_the_definition(table, neurite, parameters):
    config = same_neurite(neurite=neurite, **parameters)
    partners = NeuritePartners(table, TRAINING, config)
    expected = allowed_pairs(table, config)
    sides = {"pre": (0,), "post": (1,), "both": (0, 1)}[neurite]
    found = {
        (int(TRAINING[a]), int(TRAINING[b]), side)
        for a in range(len(TRAINING))
        for side in sides
        for b in partners.candidates(a, side)
    }
    assert found == expected
    counts = partners.counts
    columns = (table.pre_root_id, table.post_root_id)
    assert counts.n_pairs == len(expected) / 2
    assert counts.n_with_partner == len({a for a, _, _ in expected})
    assert counts.n_paired == len({int(columns[side][a]) for a, _, side in expected})
    assert counts.n_synapses == len(TRAINING)


@pytest.mark.parametrize("neurite", ["pre", "post", "both"])
def test_no_annotated_neurite_is_ever_paired(table, neurite):
    """Every anchor many times over: partners share no annotated neurite on any side, and nothing is held out."""
    partners = NeuritePartners(table, TRAINING, same_neurite(neurite=neurite, probability=1))
    annotated = set(table.annotated_root_ids.tolist()) - {0}
    anchors = np.tile(np.arange(len(TRAINING)), 200)
    drawn = partners(anchors, np.random.default_rng(0))
    pairs = {(int(TRAINING[a]), int(TRAINING[b])) for a, b in zip(anchors, drawn, strict=True) if a != b}
    roots = [
        {pre, post} - {0} for pre, post in zip(table.pre_root_id.tolist(), table.post_root_id.tolist(), strict=True)
    ]
    assert pairs == {
        (a, b) for a, b, _ in allowed_pairs(table, same_neurite(neurite=neurite))
    }  # none is missing either
    assert all(not roots[a] & roots[b] & annotated and roots[a] & roots[b] for a, b in pairs)
    assert any(roots[a] & annotated for a, _ in pairs)  # their other neurite may be annotated: it is not shared


def test_draws_follow_the_generator_and_the_probability(table):
    config = same_neurite(probability=0.3)
    partners = pickle.loads(pickle.dumps(NeuritePartners(table, TRAINING, config)))
    has_partner = np.array([any(len(partners.candidates(a, side)) for side in (0, 1)) for a in range(len(TRAINING))])
    anchors = np.tile(np.arange(len(TRAINING)), 100)
    drawn = partners(anchors, np.random.default_rng(5))
    assert np.array_equal(drawn, partners(anchors, np.random.default_rng(5)))
    assert not np.array_equal(drawn, partners(anchors, np.random.default_rng(6)))
    other = (drawn != anchors).reshape(100, -1)
    assert not other[:, ~has_partner].any()
    assert abs(other[:, has_partner].mean() - 0.3) < 0.02


def test_a_long_neurite_does_not_outweigh_a_short_one():
    star = NeuriteTable(*np.array([[7, 7, 7, 7, 7, 1], [8, 2, 3, 4, 5, 8]], np.uint64), np.zeros((6, 3)), np.empty(0))
    drawn = NeuritePartners(star, np.arange(6), same_neurite(probability=1))(
        np.zeros(4000, int), np.random.default_rng(0)
    )
    share = np.bincount(drawn, minlength=6) / 4000
    assert abs(share[5] - 0.5) < 0.03  # the one on the postsynaptic neurite, against four on the presynaptic one
    np.testing.assert_allclose(share[1:5], 0.125, atol=0.02)


def test_the_table_reads_annotations_of_every_column_and_keeps_ids_exact():
    big = 2**63 + 1
    metadata = pd.DataFrame(
        {
            "synapse_id": [11, 12, 13, 14],
            "chunk_index": [2, 0, 1, 3],
            "pre_root_id": np.array([big, big + 1, big + 2, big + 3], np.uint64),
            "post_root_id": [1, 2, 3, 4],
            **{f"centre_{axis}_nm": [1.0, 2.0, 3.0, 4.0] for axis in "xyz"},
        }
    )
    annotations = pd.DataFrame(
        {"synapse_id": [11, 12, 13, 99], "a": [np.nan, 0.5, np.nan, 1], "b": [np.nan, np.nan, -np.inf, 1]}
    )
    table = NeuriteTable.from_tables(metadata, annotations)
    assert table.pre_root_id.tolist() == [big + 1, big + 2, big, big + 3]
    assert table.post_root_id.tolist() == [2, 3, 1, 4]
    assert table.centre_nd_nm[:, 0].tolist() == [2, 3, 1, 4]
    assert set(table.annotated_root_ids.tolist()) == {big + 1, big + 2, 2, 3}
    assert NeuriteTable.from_tables(metadata, annotations.iloc[:2]).sha256 != table.sha256
    with pytest.raises(TableError, match=r"synapse_metadata has 3 rows whose chunk_index is not 0 to 2"):
        NeuriteTable.from_tables(metadata[metadata["chunk_index"] > 0], annotations)


def test_when_nothing_may_be_paired_the_error_gives_counts_and_options(table):
    everything = NeuriteTable(
        table.pre_root_id,
        table.post_root_id,
        table.centre_nd_nm,
        np.unique(np.concatenate([table.pre_root_id, table.post_root_id])),
    )
    message = (
        r"of 25 neurites, 25 are annotated and form no pairs; of the other 0, 0 have two .* pair_annotated_neurites"
    )
    with pytest.raises(ConfigurationError, match=message):
        NeuritePartners(everything, TRAINING, same_neurite())
    with pytest.raises(ConfigurationError, match=r"none has two at most 0.001 um apart \(max_distance_um\)"):
        NeuritePartners(table, TRAINING, same_neurite(max_distance_um=0.001))
    with pytest.raises(ConfigurationError, match=r"was not told the synapses' neurites. Pass fit\(\) neurites="):
        make_partners(same_neurite(), None, TRAINING, 4)
    assert make_partners(PositivesConfig(), None, TRAINING, 4) is None


def test_pairs_of_annotated_neurites_are_said_in_provenance_and_log(table, caplog):
    with caplog.at_level("INFO"):
        guarded = make_partners(same_neurite(), table, TRAINING, 32)
    assert "training synapses have no partner and keep their own second view" in caplog.text
    assert f"{guarded.counts.n_pairs} pairs on {guarded.counts.n_paired} of 25 neurites" in caplog.text
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    assert guarded.provenance["positives_pair_annotated_neurites"] == "false"
    assert guarded.provenance["positives_n_pairs"] == str(guarded.counts.n_pairs)
    assert leakage_warning(guarded.provenance) is None is leakage_warning({})

    leaky = make_partners(same_neurite(pair_annotated_neurites=True), table, TRAINING, 32)
    assert leaky.counts.n_barred == 0
    assert leaky.counts.n_pairs > guarded.counts.n_pairs
    warning = leakage_warning({f"weights_{key}": value for key, value in leaky.provenance.items()})
    assert warning is not None
    assert warning in caplog.text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("neighbour", "'augment' or 'same_neurite'"),
        ({"kind": "same_neurite", "probability": 0}, "greater than 0"),
        ({"kind": "same_neurite", "max_distance_um": -1}, "greater than 0"),
        ({"probability": 0.2}, r"probability is 0.2, but the kind 'augment' .* choose the kind 'same_neurite'"),
        (
            {"kind": "augment", "pair_annotated_neurites": True},
            "pair_annotated_neurites is True, but the kind",
        ),
        ({"kinds": "augment"}, "Extra inputs"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        PretrainingConfig.model_validate({"positives": given})


def test_the_kind_alone_will_do_and_the_dump_holds_what_acts():
    assert PretrainingConfig().positives.model_dump() == {"kind": "augment"}
    config = PretrainingConfig.model_validate({"positives": "same_neurite"})
    assert config.positives == same_neurite()
    assert config.positives.model_dump()["pair_annotated_neurites"] is False
    assert PretrainingConfig.model_validate_json(config.model_dump_json()) == config
