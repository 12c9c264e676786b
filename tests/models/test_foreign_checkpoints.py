import argparse
import hashlib
import json

import fsspec
import pytest
import torch

from synapseclr.errors import CheckpointError, ConfigurationError
from synapseclr.models import ModelConfig, import_checkpoint

TINY = ModelConfig(encoder="resnet18_no_max_pool", width_factor=0.125, projection_dims=(16, 8))
MEDICALNET = ModelConfig(encoder="resnet18_medicalnet", width_factor=0.125, projection_dims=(16, 8))
BOTH_SIDES = MEDICALNET.model_copy(update={"in_channels": 2})


@pytest.fixture
def state():
    return TINY.build(3).state_dict()


@pytest.fixture
def save(tmp_path):
    def save(content, name="model_checkpoint_99.pt", **how):
        torch.save(content, tmp_path / name, **how)
        return tmp_path / name

    return save


@pytest.fixture
def medicalnet(save):
    """A file as MedicalNet's: wrapped, prefixed, the backbone alone, in torch's old format."""
    model = MEDICALNET.build(5)
    backbone = {f"module.{key}": tensor for key, tensor in model.encoder.state_dict().items()}
    path = save({"epoch": 1, "state_dict": backbone}, "resnet_18.pth", _use_new_zipfile_serialization=False)
    return path, model


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("prefix", ["", "module.", "module.module."])
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_published_checkpoint_is_read_whole(state, save, prefix, wrapped, zipped):
    content = {f"{prefix}{key}": tensor for key, tensor in state.items()}
    path = save({"state_dict": content} if wrapped else content, _use_new_zipfile_serialization=zipped)
    imported = import_checkpoint(path, TINY)
    assert_same(imported.weights.state_dict, state)
    assert set(imported.report.matched) == set(state)
    assert (imported.report.missing, imported.report.unexpected, imported.report.adapted) == ((), (), ())
    assert imported.weights.provenance == {
        "source": "model_checkpoint_99.pt",
        "source_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "kind": "synapseclr",
    }


def test_the_imported_model_computes_what_the_original_did(state, save):
    x_bcxyz = torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    original = TINY.build(0)
    original.load_state_dict(state)
    with torch.no_grad():
        expected = original.eval()(x_bcxyz)
        found = import_checkpoint(save(state), TINY).weights.build()(x_bcxyz)
    assert all(torch.equal(found[layer], expected[layer]) for layer in expected)


def test_all_published_names_are_accepted_under_the_golden_keys(golden_folder, save):
    golden = json.loads((golden_folder / "g08_encoders.json").read_text())["resnet18_no_max_pool"]
    shapes = {f"encoder.{k}": v[0] for k, v in golden["state_dict"].items() if not k.startswith("fc.")}
    shapes |= golden["simclr_512_128"]["extra_keys"]
    counters = {k: torch.tensor(7) for k in shapes if k.endswith("num_batches_tracked")}
    content = {f"module.{k}": torch.ones(shape) for k, shape in shapes.items() if k not in counters}
    content |= {f"module.{k}": counter for k, counter in counters.items()}
    imported = import_checkpoint(save(content), ModelConfig())
    assert set(imported.report.matched) == set(shapes)
    assert imported.weights.state_dict["encoder.bn1.num_batches_tracked"] == 7


def test_urls_are_read_through_fsspec(state):
    with fsspec.open("memory://bucket/model_checkpoint_7.pt", "wb") as file:
        torch.save(state, file)
    imported = import_checkpoint("memory://bucket/model_checkpoint_7.pt", TINY)
    assert imported.weights.provenance["source"] == "model_checkpoint_7.pt"
    assert_same(imported.weights.state_dict, state)


def test_the_encoder_of_medicalnet_is_taken_and_the_projector_drawn(medicalnet):
    path, model = medicalnet
    imported = import_checkpoint(path, MEDICALNET, seed=11)
    state, report = imported.weights.state_dict, imported.report
    for key, tensor in model.encoder.state_dict().items():
        assert torch.equal(state[f"encoder.{key}"], tensor)
    for key, tensor in MEDICALNET.build(11).projector.state_dict().items():
        assert torch.equal(state[f"projector.{key}"], tensor)
    assert report.kind == "medicalnet"
    assert report.initialised == report.missing == tuple(k for k in state if k.startswith("projector."))
    assert report.other_entries == ("epoch",)
    assert imported.weights.provenance["initialised"] == "projector"
    assert imported.weights.provenance["seed"] == "11"
    imported.weights.build()


def test_the_head_of_medicalnet_is_left_out_and_reported(save):
    content = {**MEDICALNET.build(5).encoder.state_dict(), "conv_seg.0.weight": torch.ones(2), "fc.bias": torch.ones(2)}
    report = import_checkpoint(save(content), MEDICALNET).report
    assert report.unexpected == ("encoder.conv_seg.0.weight", "encoder.fc.bias")


def test_a_repeated_first_convolution_gives_two_equal_channels_what_one_gave(medicalnet):
    path, _ = medicalnet
    one = import_checkpoint(path, MEDICALNET)
    two = import_checkpoint(path, BOTH_SIDES, repeat_first_convolution=True)
    assert two.report.adapted == ("encoder.conv1.weight",)
    assert "repeated" in two.weights.provenance["first_convolution"]
    x_bcxyz = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = one.weights.build()(x_bcxyz)["encoder.fc"]
        found = two.weights.build()(x_bcxyz.repeat(1, 2, 1, 1, 1))["encoder.fc"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_two_channels_must_be_asked_for(medicalnet):
    path, _ = medicalnet
    message = (
        r"resnet_18.pth does not fit resnet18_medicalnet \(in_channels 2.*: 1 tensors differ. "
        r"encoder.conv1.weight: expected \(8, 2, 7, 7, 7\), found \(8, 1, 7, 7, 7\).*repeat_first_convolution=True"
    )
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint(path, BOTH_SIDES)
    with pytest.raises(ConfigurationError, match=r"model.in_channels is 1. Set in_channels to 2"):
        import_checkpoint(path, MEDICALNET, repeat_first_convolution=True)


def test_medicalnet_is_only_fit_to_its_dilated_encoder(medicalnet):
    path, _ = medicalnet
    with pytest.raises(
        ConfigurationError, match=r"resnet_18.pth .* only encoder 'resnet18_medicalnet'.* not 'resnet18"
    ):
        import_checkpoint(path, TINY)


def test_missing_counters_are_filled_and_reported(state, save):
    path = save({key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")})
    imported = import_checkpoint(path, TINY)
    assert imported.report.filled == imported.report.missing
    assert set(imported.report.filled) == {key for key in state if key.endswith("num_batches_tracked")}
    assert all(imported.weights.state_dict[key] == 0 for key in imported.report.filled)
    imported.weights.build()


def test_other_precisions_become_ours(state, save):
    path = save({key: tensor.double() if tensor.is_floating_point() else tensor for key, tensor in state.items()})
    assert_same(import_checkpoint(path, TINY).weights.state_dict, state)


def test_another_encoder_is_refused_with_the_first_three_tensors_and_those_that_fit(state, save):
    config = TINY.model_copy(update={"encoder": "resnet34_no_max_pool_cifar_stem", "width_factor": 0.25})
    with pytest.raises(CheckpointError) as caught:
        import_checkpoint(save(state), config)
    message = str(caught.value)
    assert (
        "model_checkpoint_99.pt does not fit resnet34_no_max_pool_cifar_stem (in_channels 1, width_factor 0.25"
        in message
    )
    assert "encoder.conv1.weight: expected (16, 1, 3, 3, 3), found (8, 1, 7, 7, 7)" in message
    assert "encoder.bn1.weight: expected (16,), found (8,)" in message
    assert message.count("expected (") == 3
    assert "encoder resnet18 or resnet18_no_max_pool, in_channels 1, width_factor 0.125" in message
    assert "projection_dims (16, 8): set these." in message


def test_missing_and_unexpected_tensors_are_refused(state, save):
    del state["encoder.layer1.0.conv1.weight"]
    state["encoder.extra"] = torch.ones(2)
    with pytest.raises(CheckpointError) as caught:
        import_checkpoint(save(state), TINY)
    assert "2 tensors differ" in str(caught.value)
    assert "encoder.layer1.0.conv1.weight: expected (8, 8, 3, 3, 3), found none" in str(caught.value)
    assert "encoder.extra: expected none, found (2,)" in str(caught.value)
    assert "It fits none of our encoders" in str(caught.value)


def test_quantised_tensors_are_refused(state, save):
    state["encoder.bn1.bias"] = torch.ones(8, dtype=torch.uint8)
    with pytest.raises(CheckpointError, match=r"encoder.bn1.bias: expected \(8,\), found \(8,\) of torch.uint8"):
        import_checkpoint(save(state), TINY)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_tensor_that_is_not_finite_is_named(state, save, value):
    state["encoder.layer2.0.bn1.running_var"][3] = value
    message = r"model_checkpoint_99.pt has NaN .* 1 tensors: encoder.layer2.0.bn1.running_var \(1 of 16 values\)"
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint(save(state), TINY)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_named_with_its_size(state, save, kept, zipped):
    path = save(state, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(CheckpointError, match=rf"99.pt \({path.stat().st_size} bytes\) is not a readable .* truncated"):
        import_checkpoint(path, TINY)


class Trap(str):
    def __reduce__(self):
        return (open, (str(self), "w"))


def test_code_in_a_file_is_refused_and_not_run(state, save, tmp_path):
    path = save({"state_dict": state, "trap": Trap(tmp_path / "sprung")})
    with pytest.raises(CheckpointError, match=r"99.pt is refused: reading it would call '\w+\.open'"):
        import_checkpoint(path, TINY)
    assert not (tmp_path / "sprung").exists()


def test_a_foreign_class_in_a_file_is_named(state, save):
    path = save({"state_dict": state, "args": argparse.Namespace(epochs=1)})
    with pytest.raises(CheckpointError, match=r"would call 'argparse.Namespace'"):
        import_checkpoint(path, TINY)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "holds a list, expected a state dict"),
        ({}, "holds nothing"),
        ({"model": {"a": 1}}, "entry 'model' is a dict, expected a tensor"),
        ({"a": torch.ones(1), "module.a": torch.ones(1)}, "'a' occurs with and without the prefix"),
    ],
)
def test_what_is_no_state_dict_is_told(save, content, message):
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint(save(content), TINY)


@pytest.mark.parametrize(
    ("source", "message"), [("nowhere.pt", "cannot be read"), ("moon://a/b.pt", "is no path or URL")]
)
def test_a_source_that_does_not_exist_is_named(source, message):
    with pytest.raises(CheckpointError, match=f"{source} {message}"):
        import_checkpoint(source, TINY)
