"""The training engine, and its options."""

import numpy as np
import pytest
import torch

from synapseclr.errors import ConfigurationError
from synapseclr.models import EncoderWeights
from synapseclr.models.simclr import SimCLR, initialise
from synapseclr.training import PretrainingConfig, ProbeTargets, fit
from synapseclr.training import module as training_module
from synapseclr.training.engine import check_hardware
from synapseclr.training.module import PretrainingModule, keep_small_maps_in_32_bits


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


def changed(config, **parameters):
    return PretrainingConfig.model_validate(config.model_dump() | parameters)


@pytest.fixture(scope="module")
def one_epoch(tiny_config):
    return changed(tiny_config, epochs=1)


@pytest.fixture(scope="module")
def gentle(one_epoch):
    """Weights hardly move, and no batch of views is constant, whose batch norm would make rounding errors huge."""
    cutouts = ("section", "corner", "random", "random_periphery")
    augmentation = one_epoch.augmentation.replaced(**{f"enable_{name}_cutout": False for name in cutouts})
    rates = {"learning_rate": 2e-6, "final_learning_rate": 2e-7}
    return changed(one_epoch, optimiser=rates, augmentation=augmentation.model_dump())


@pytest.fixture(scope="module")
def plain(chunks, one_epoch, tmp_path_factory):
    return fit(chunks, one_epoch, str(tmp_path_factory.mktemp("plain")))


@pytest.mark.parametrize("name", ["adamw", "lars"])
def test_every_optimiser_trains(chunks, one_epoch, plain, tmp_path, name):
    result = fit(chunks, changed(one_epoch, optimiser={"name": name}), str(tmp_path))
    before = one_epoch.model.build(one_epoch.seed).state_dict()
    assert np.isfinite(result.history.to_numpy()).all()
    assert result.weights.sha256 != plain.weights.sha256
    for key in ("encoder.conv1.weight", "encoder.bn1.bias", "projector.mlp.3.weight"):
        assert not torch.equal(result.weights.state_dict[key], before[key])


def test_a_history_over_two_stages_restarts(chunks, tiny_config, tmp_path):
    config = changed(tiny_config, epochs=4, optimiser={"restarts": 1})
    rates = fit(chunks, config, str(tmp_path)).history["learning_rate"].tolist()
    assert rates == pytest.approx([2e-4, 1.1e-4, 2e-4, 1.1e-4])


@pytest.mark.parametrize("failing_epoch", [3, 4])
def test_a_run_resumed_around_a_restart_equals_an_uninterrupted_one(chunks, tiny_config, tmp_path, failing_epoch):
    """The first epoch of the second stage is the third: its checkpoint before has the new rate and no moments."""
    config = changed(tiny_config, epochs=4, optimiser={"restarts": 1, "warmup_epochs": 1, "name": "lars"})

    def fail(epoch, metrics):
        if epoch == failing_epoch:
            raise OSError("the report fails")

    with pytest.raises(OSError, match="the report fails"):
        fit(chunks, config, str(tmp_path / "broken"), report=fail)
    continued = fit(chunks, config, str(tmp_path / "broken"))
    whole = fit(chunks, config, str(tmp_path / "whole"))
    assert continued.weights.sha256 == whole.weights.sha256
    assert continued.history["learning_rate"].tolist() == whole.history["learning_rate"].tolist()


def test_two_accumulated_batches_are_one_step_of_their_mean_gradient(chunks, one_epoch, monkeypatch, tmp_path):
    """Four batches, two steps; the same batches in the same order, with the same views."""
    seen, steps = [], []
    step = PretrainingModule.training_step

    def note(self, chunk_bcxyz, batch_index):
        loss = step(self, chunk_bcxyz, batch_index)
        seen.append(torch.autograd.grad(loss, self.model.projector.mlp[3].weight, retain_graph=True)[0])
        return loss

    monkeypatch.setattr(PretrainingModule, "training_step", note)
    monkeypatch.setattr(
        PretrainingModule,
        "on_before_optimizer_step",
        lambda self, optimizer: steps.append(self.model.projector.mlp[3].weight.grad.clone()),
    )
    fit(chunks, changed(one_epoch, accumulate_batches=2), str(tmp_path))
    assert (len(seen), len(steps)) == (4, 2)
    for index, gradient in enumerate(steps):
        torch.testing.assert_close(gradient, (seen[2 * index] + seen[2 * index + 1]) / 2, rtol=1e-4, atol=1e-7)


def test_gradients_are_clipped_by_their_common_norm(chunks, gentle, monkeypatch, tmp_path):
    norms = []

    def note(self, epoch, batch_idx, optimizer, optimizer_closure):
        optimizer.step(lambda: optimizer_closure())
        gradients = [parameter.grad for parameter in self.model.parameters()]
        norms.append(float(torch.nn.utils.get_total_norm(gradients)))

    monkeypatch.setattr(PretrainingModule, "optimizer_step", note)
    fit(chunks, gentle, str(tmp_path))
    free = list(norms)
    norms.clear()
    limit = min(free) / 2
    fit(chunks, changed(gentle, gradient_clip_norm=limit), str(tmp_path))
    assert norms == pytest.approx([limit] * 4, rel=1e-3)


def test_bf16_is_close_to_32_bits(chunks, gentle, tmp_path):
    """Batch norms over eight values make more of the rounding than a real network: 0.4 to 2.8 % over seeds and CPUs."""
    full = fit(chunks, gentle, str(tmp_path / "32")).history
    half = fit(chunks, changed(gentle, precision="bf16-mixed"), str(tmp_path / "16")).history
    assert half["train_loss"][0] != full["train_loss"][0]
    assert half["train_loss"][0] == pytest.approx(full["train_loss"][0], rel=0.05)
    assert half["validation_loss"][0] == pytest.approx(full["validation_loss"][0], rel=0.05)


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 1, 1), (3, 2, 1), (3, 1, 2), (7, 2, 1)])
@pytest.mark.parametrize("shape_xyz", [(2, 2, 2), (1, 1, 1), (2, 8, 8), (9, 9, 9)])
def test_weight_gradients_of_16_bits_are_right_on_every_map(shape_xyz, kernel, stride, dilation):
    """Without the guard, torch 2.13's are wrong, or end the process, where an axis is shorter than the kernel."""
    torch.manual_seed(0)
    padding = dilation * (kernel // 2)
    layer = torch.nn.Sequential(torch.nn.Conv3d(16, 16, kernel, stride, padding, dilation, bias=False))
    keep_small_maps_in_32_bits(layer)
    x = torch.randn(4, 16, *shape_xyz)
    upstream = torch.randn(layer(x).shape)
    gradients = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            output = layer(x)
        (gradient,) = torch.autograd.grad(output, layer[0].weight, upstream.to(output.dtype))
        gradients.append(gradient)
    assert float((gradients[1] - gradients[0]).norm() / gradients[0].norm()) < 0.01
    is_small = min(shape_xyz) < dilation * (kernel - 1) + 1
    assert output.dtype == (torch.float32 if is_small else torch.bfloat16)


def test_views_are_the_same_under_16_bits(chunks, one_epoch):
    """Under autocast, torch's affine grid would be of 16 bits and move the voxels."""
    module = PretrainingModule(one_epoch)
    views = []
    module.model.register_forward_pre_hook(lambda _, inputs: views.append(inputs[0]))
    chunk_bcxyz = torch.from_numpy(chunks.read(np.arange(4)))
    with torch.no_grad():
        module.validation_step(chunk_bcxyz, 0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            module.validation_step(chunk_bcxyz, 0)
    assert views[1].dtype == torch.float32
    assert torch.equal(views[0], views[1])


def test_half_precision_without_a_gpu_is_an_error(chunks, one_epoch, tmp_path):
    with pytest.raises(ConfigurationError, match=r"16-mixed, which needs a GPU.*bf16-mixed or 32-true"):
        fit(chunks, changed(one_epoch, precision="16-mixed"), str(tmp_path))


def small_model(config):
    """A SimCLR model of one convolution, which compiles in seconds, and no provenance."""
    encoder = torch.nn.Sequential()
    encoder.conv1 = torch.nn.Conv3d(1, 8, 3, stride=2, bias=False)
    encoder.bn1 = torch.nn.BatchNorm3d(8)
    encoder.act = torch.nn.ReLU()
    encoder.flatten = torch.nn.Flatten()
    encoder.n_features = 8 * 7**3
    model = SimCLR(encoder, (16, 8))
    initialise(model, config.seed)
    return model, {}


def test_a_compiled_run_has_the_keys_and_the_gradients_of_a_plain_one(chunks, one_epoch, monkeypatch, tmp_path):
    config = changed(one_epoch, compile=True)
    try:
        check_hardware(config)
    except ConfigurationError as error:
        pytest.skip(f"nothing can be compiled here: {error}")
    gradients = []

    def note(self, optimizer):
        gradients.append([parameter.grad.clone() for parameter in self.model.parameters()])

    monkeypatch.setattr(PretrainingModule, "on_before_optimizer_step", note)
    monkeypatch.setattr(training_module, "initial_model", small_model)
    torch._dynamo.utils.counters.clear()
    compiled = fit(chunks, config, str(tmp_path / "compiled"))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    plain = fit(chunks, one_epoch, str(tmp_path / "plain"))
    for found, expected in zip(gradients[0], gradients[4], strict=True):  # of the first of four steps
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert compiled.history["validation_loss"][0] == pytest.approx(plain.history["validation_loss"][0], rel=0.05)
    names = list(plain.weights.state_dict)
    assert list(compiled.weights.state_dict) == names
    (path,) = tmp_path.glob("compiled/*/last.ckpt")
    assert list(torch.load(path, weights_only=True)["state_dict"]) == [f"model.{name}" for name in names]


def test_no_compiler_is_an_error_before_the_training(chunks, one_epoch, tmp_path):
    from torch._inductor import config as inductor
    from torch._inductor.utils import fresh_cache

    torch.compiler.reset()
    with (
        inductor.patch({"cpp.cxx": (None, "no-such-c++")}),
        fresh_cache(),
        pytest.raises(ConfigurationError, match=r"compile is true, but torch cannot .* Install a C\+\+ compiler"),
    ):
        fit(chunks, changed(one_epoch, compile=True), str(tmp_path))
    assert not list(tmp_path.iterdir())
