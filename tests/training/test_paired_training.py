import numpy as np
import pandas as pd
import pytest
import torch

from synapseclr.errors import ConfigurationError
from synapseclr.training import module as training_module
from synapseclr.training.module import PretrainingModule
from synapseclr.training.positives import (
    NeuriteTable,
    PositivesConfig,
    annotation_provenance,
    inherited_provenance,
    leakage_warning,
    make_partners,
)


def same_neurite(**parameters):
    return PositivesConfig(kind="same_neurite", **parameters)


@pytest.fixture
def step(chunks, tiny_config, monkeypatch):
    """Loss and views' projections of a training step, for positions in the store."""
    seen = []
    monkeypatch.setattr(training_module, "gather_views", lambda *z: seen.append(z) or z)
    monkeypatch.setattr(PretrainingModule, "log", lambda *_, **given: seen.append(given["batch_size"]))
    monkeypatch.setattr(PretrainingModule, "current_epoch", 1)

    def run(positives, positions, batch_mode="coupled"):
        # Some sections stay in every view, and no noise tells the places in a batch apart.
        changes = {"cutout_poisson_rate": 1.0, "enable_pixel_noise": False}
        augmentation = tiny_config.augmentation.replaced(batch_mode=batch_mode, **changes)
        config = tiny_config.model_copy(update={"positives": positives, "augmentation": augmentation})
        seen.clear()
        loss = PretrainingModule(config).training_step(torch.from_numpy(chunks.read(positions)), 2)
        assert seen[1] == 4
        return loss.detach(), *seen[0]

    return run


@pytest.mark.parametrize("batch_mode", ["coupled", "decoupled"])
def test_synapses_without_partner_have_the_views_of_augment_bit_for_bit(step, batch_mode):
    anchors = [0, 1, 2, 3]
    expected = step(PositivesConfig(), anchors, batch_mode)
    found = step(same_neurite(), anchors + anchors, batch_mode)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert not torch.equal(expected[1], expected[2])  # two views, also where a batch shares its draws


def test_the_second_view_is_one_of_the_partner(step):
    """Training mode would mix the rows through batch statistics, so each side is compared as a whole."""
    z_i, z_j = step(same_neurite(), [0, 1, 2, 3, 4, 5, 6, 7])[1:]
    swapped_i, swapped_j = step(same_neurite(), [0, 1, 2, 3, 5, 4, 6, 7])[1:]
    torch.testing.assert_close(swapped_i, z_i)
    torch.testing.assert_close(swapped_j, z_j[[1, 0, 2, 3]])


@pytest.fixture(scope="module")
def tables(chunks):
    """Five presynaptic and four postsynaptic neurites for the twenty chunks; two synapses are annotated."""
    row = np.arange(len(chunks))
    metadata = pd.DataFrame(
        {
            "synapse_id": chunks.synapse_id,
            "chunk_index": row,
            "pre_root_id": 10 + row // 4,
            "post_root_id": 30 + row % 4,
        }
    ).assign(**{f"centre_{axis}_nm": 0.0 for axis in "xyz"})
    return metadata, pd.DataFrame({"synapse_id": chunks.synapse_id[[0, 5]], "pre_cell_type": [0.0, 1.0]})


def test_training_pairs_neither_held_out_synapses_nor_annotated_neurites(chunks, tiny_config, tables):
    """The very batches that the loader asks for, over many epochs."""
    from synapseclr.training.data import ChunkDataModule

    config = tiny_config.model_copy(update={"positives": same_neurite(probability=1)})
    neurites = NeuriteTable.from_tables(*tables)
    data = ChunkDataModule(chunks, config, np.array([7]), neurites)
    sampler = data.train_dataloader().batch_sampler
    pairs = set()
    for epoch in range(60):
        sampler.set_epoch(epoch)
        for batch in sampler:
            anchors, partners = data.training_indices[batch].reshape(2, config.batch_size)
            pairs |= set(zip(anchors.tolist(), partners.tolist(), strict=True))
    assert not {row for pair in pairs for row in pair} & {7, *data.validation_indices.tolist()}
    assert neurites.annotated_root_ids.tolist() == [10, 11, 30, 31]
    true_pairs = {pair for pair in pairs if pair[0] != pair[1]}
    assert len(true_pairs) == 2 * data.partners.counts.n_pairs  # each in both orders
    for a, b in true_pairs:
        shared = {10 + a // 4, 30 + a % 4} & {10 + b // 4, 30 + b % 4}
        assert shared
        assert not shared & {10, 11, 30, 31}
    assert len(data.val_dataloader()) == 1  # the held-out synapses are compared with themselves
    assert len(next(iter(data.val_dataloader())).volume_bxyzc) == len(data.validation_indices)


def test_training_tells_its_pairs_and_is_another_run_with_other_annotations(chunks, tiny_config, tables, tmp_path):
    from synapseclr.training import fit

    config = tiny_config.model_copy(update={"positives": same_neurite(probability=1), "epochs": 1})
    metadata, annotations = tables
    neurites = NeuriteTable.from_tables(metadata, annotations)
    first, again = (fit(chunks, config, str(tmp_path / name), neurites=neurites) for name in "ab")
    assert first.weights.sha256 == again.weights.sha256
    provenance = first.weights.provenance
    assert provenance["positives"] == "same_neurite"
    assert provenance["positives_pair_annotated_neurites"] == "false"
    assert provenance["positives_n_neurites_barred"] == "4"
    assert int(provenance["positives_n_pairs"]) > 0

    other = fit(chunks, config, str(tmp_path / "a"), neurites=NeuriteTable.from_tables(metadata, annotations[:1]))
    augment = fit(chunks, config.model_copy(update={"positives": PositivesConfig()}), str(tmp_path / "a"))
    assert len({result.weights.sha256 for result in (first, other, augment)}) == 3
    assert len(list((tmp_path / "a").iterdir())) == 3
    assert not [name for name in augment.weights.provenance if "positives" in name]
    with pytest.raises(ConfigurationError, match="was not told the synapses' neurites"):
        fit(chunks, config, str(tmp_path))


def test_the_pipeline_tags_the_run_and_the_evaluation_warns(chunks, tiny_config, tables, tmp_path, caplog):
    import mlflow
    from anndata import AnnData

    from synapseclr.pipelines.embedding.nodes import describe_embedding, embed_synapses
    from synapseclr.pipelines.pretraining.nodes import train_encoder
    from synapseclr.pipelines.reporting import evaluate_run
    from synapseclr.plotting.report import ReportingConfig
    from synapseclr.training import EmbeddingConfig

    positives = same_neurite(pair_annotated_neurites=True)
    config = tiny_config.model_copy(update={"positives": positives, "epochs": 1})
    previous = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    try:
        with mlflow.start_run() as run:
            weights, _ = train_encoder(chunks, *tables, config, str(tmp_path / "checkpoints"))
        tags = mlflow.get_run(run.info.run_id).data.tags
    finally:
        mlflow.set_tracking_uri(previous)
    assert tags["positives_pair_annotated_neurites"] == "true"
    assert tags["positives_n_pairs"] == weights.provenance["positives_n_pairs"]

    embedded = embed_synapses(weights, chunks, *tables, config, EmbeddingConfig())
    provenance = embedded.uns["provenance"]
    assert provenance["weights_positives_pair_annotated_neurites"] == "true"
    for uns, n_warnings in (({"provenance": provenance}, 1), ({"provenance": {}}, 0), ({}, 0)):
        caplog.clear()
        evaluate_run({}, describe_embedding(AnnData(np.zeros((2, 1), np.float32), uns=uns), ReportingConfig()))
        assert caplog.text.count("are not scores on unknown neurites") == n_warnings


def test_annotations_that_came_after_the_pretraining_are_warned_of(tables):
    metadata, annotations = tables
    neurites = NeuriteTable.from_tables(metadata, annotations)
    weights = make_partners(same_neurite(), neurites, np.arange(20), 4).provenance | {"chunks_sha256": "a"}
    more = pd.concat([annotations, pd.DataFrame({"synapse_id": [metadata["synapse_id"][19]], "pre_cell_type": [0.0]})])
    assert annotation_provenance(weights, metadata, annotations, "a") == {}
    assert annotation_provenance(weights, metadata, more, "another store") == {}
    assert annotation_provenance({"chunks_sha256": "a"}, metadata, more, "a") == {}
    changed = annotation_provenance(weights, metadata, more, "a")
    assert "no longer those that it left out" in leakage_warning(changed | weights)

    second_stage = inherited_provenance(weights) | {"chunks_sha256": "a"}
    assert annotation_provenance(second_stage, metadata, more, "a") == changed
    assert leakage_warning(second_stage) is None
    leaky = make_partners(same_neurite(pair_annotated_neurites=True), neurites, np.arange(20), 4).provenance
    assert "pair_annotated_neurites" in leakage_warning(inherited_provenance(inherited_provenance(leaky)))


def test_a_training_from_weights_inherits_what_they_say_of_their_pairs(chunks, tiny_config, tables, tmp_path):
    from synapseclr.training import fit

    positives = same_neurite(pair_annotated_neurites=True)
    config = tiny_config.model_copy(update={"positives": positives, "epochs": 1})
    first = fit(chunks, config, str(tmp_path), neurites=NeuriteTable.from_tables(*tables)).weights
    path = tmp_path / "first.safetensors"
    path.write_bytes(first.to_bytes())
    config = config.model_copy(update={"positives": PositivesConfig(), "initial_weights": str(path)})
    second = fit(chunks, config, str(tmp_path)).weights
    assert leakage_warning(second.provenance) == leakage_warning(first.provenance) is not None
