import numpy as np
import pytest

from synapseclr.errors import ConfigurationError
from synapseclr.models import EncoderWeights
from synapseclr.training import ProbeTargets, fit


@pytest.fixture(scope="module")
def result(chunks, tiny_config, tmp_path_factory):
    return fit(chunks, tiny_config, str(tmp_path_factory.mktemp("checkpoints")))


def test_history_has_one_row_an_epoch(result, tiny_config):
    assert result.history["epoch"].tolist() == [1, 2, 3]
    expected = {"train_loss", "validation_loss", "alignment", "uniformity", "effective_rank", "learning_rate"}
    assert expected <= set(result.history.columns)
    assert np.isfinite(result.history.to_numpy()).all()


def test_the_learning_rate_follows_the_cosine(result, tiny_config):
    high, low = tiny_config.optimiser.learning_rate, tiny_config.optimiser.final_learning_rate
    expected = low + (high - low) * (1 + np.cos(np.pi * np.arange(3) / 3)) / 2
    np.testing.assert_allclose(result.history["learning_rate"], expected, rtol=1e-6)


def test_weights_move_away_from_their_start(result, tiny_config):
    untrained = EncoderWeights(dict(tiny_config.model.build(tiny_config.seed).state_dict()), tiny_config.model, {})
    assert untrained.sha256 != result.weights.sha256


def test_another_configuration_does_not_continue_the_run(chunks, tiny_config, tmp_path):
    fit(chunks, tiny_config.model_copy(update={"epochs": 1}), str(tmp_path))
    other = fit(chunks, tiny_config.model_copy(update={"epochs": 2, "seed": 1}), str(tmp_path))
    assert other.history["epoch"].tolist() == [1, 2]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_finished_run_is_trained_again(chunks, tiny_config, tmp_path):
    config = tiny_config.model_copy(update={"epochs": 1})
    epochs = []
    for _ in range(2):
        fit(chunks, config, str(tmp_path), report=lambda epoch, metrics: epochs.append(epoch))
    assert epochs == [1, 1]


def test_the_probe_scores_annotated_synapses(chunks, tiny_config, tmp_path):
    labels = np.array([0.0, 1.0] * 4)
    targets = ProbeTargets(np.arange(8), {"pre_cell_type": labels}, {"pre_cell_type": np.arange(8)})
    history = fit(chunks, tiny_config.model_copy(update={"epochs": 1}), str(tmp_path), targets).history
    assert 0 <= history["knn_pre_cell_type"][0] <= 1


def test_drop_annotated_keeps_annotated_synapses_out_of_training(chunks, tiny_config):
    from synapseclr.training.data import ChunkDataModule

    data = ChunkDataModule(chunks, tiny_config, np.arange(8))
    assert not set(data.training_indices) & set(range(8))
    assert not set(data.validation_indices) & set(range(8))


def test_training_and_validation_are_disjoint_and_complete(chunks, tiny_config):
    from synapseclr.training.data import ChunkDataModule

    data = ChunkDataModule(chunks, tiny_config, np.empty(0, dtype=np.int64))
    joined = np.concatenate([data.training_indices, data.validation_indices])
    assert sorted(joined) == list(range(20))
    assert len(data.validation_indices) == 4


def test_a_batch_larger_than_the_data_is_an_error(chunks, tiny_config, tmp_path):
    with pytest.raises(ConfigurationError, match=r"batch_size is 17, but only 16 synapses are left"):
        fit(chunks, tiny_config.model_copy(update={"batch_size": 17}), str(tmp_path))


def test_a_wrong_spacing_ratio_is_an_error(chunks, tiny_config, tmp_path):
    wrong = tiny_config.augmentation.replaced(axial_to_sagittal_spacing=5.0)
    with pytest.raises(ConfigurationError, match=r"axial_to_sagittal_spacing is 5, .* Set the parameter to 2.5"):
        fit(chunks, tiny_config.model_copy(update={"augmentation": wrong}), str(tmp_path))
