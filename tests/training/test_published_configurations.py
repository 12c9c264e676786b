"""The paper's configurations: read as `kedro run --env=microns` reads them, and run for a step on small images."""

from pathlib import Path

import lightning
import pytest
import torch
from kedro.config import OmegaConfigLoader
from omegaconf.errors import InterpolationResolutionError
from torch.utils.data import DataLoader

from synapseclr.augmentation import AugmentationConfig
from synapseclr.errors import CheckpointError, ConfigurationError
from synapseclr.models import EncoderWeights, ModelConfig
from synapseclr.pipelines.embedding.nodes import initialise_encoder
from synapseclr.settings import CONFIG_LOADER_ARGS
from synapseclr.training import EmbeddingConfig, PretrainingConfig, embed_store, fit
from synapseclr.training.initial_weights import initial_model
from synapseclr.training.module import PretrainingModule

CONF = str(Path(__file__).parents[2] / "conf")
PUBLISHED = {
    "so3": {},
    "dihedral": {"augmentation": "dihedral"},
    "lars": {"configuration": "lars"},
    "medicalnet": {"configuration": "medicalnet"},
}
# Lengths are in voxels of the image; the chunks of the tests are 20 x 20 x 8 voxels of 16 x 16 x 40 nm.
REDUCED_IMAGE = {
    "axial_to_sagittal_spacing": 2.5,
    "final_crop_size": 16,
    "final_img_size": 16,
    "cutout_size_min": 2,
    "cutout_size_max": 4,
    "active_zone_inflation_radii": [1, 2],
}


def published(name: str, **given) -> PretrainingConfig:
    loader = OmegaConfigLoader(CONF, env="microns", runtime_params=PUBLISHED[name] | given, **CONFIG_LOADER_ARGS)
    return PretrainingConfig.model_validate(loader["parameters"]["pretraining"])


def reduced(name: str, **given) -> PretrainingConfig:
    """The configuration with one small batch an epoch, two stages of one epoch, small images; the network is whole."""
    changes = {"augmentation": REDUCED_IMAGE, "epochs": 2, "batch_size": 4, "accelerator": "cpu", **given}
    return published(name, pretraining=changes)


@pytest.fixture(scope="module")
def medicalnet_file(tmp_path_factory) -> Path:
    """A file with MedicalNet's keys and shapes (a backbone without projector, and a head) and random values."""
    model = ModelConfig(encoder="resnet18_medicalnet").build(seed=11)
    tensors = {f"module.{name}": tensor for name, tensor in model.encoder.state_dict().items()}
    path = tmp_path_factory.mktemp("medicalnet") / "resnet_18.pth"
    torch.save({"state_dict": tensors | {"module.conv_seg.0.weight": torch.zeros(2, 2)}}, path)
    return path


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_values(name):
    config = published(name)
    optimiser = config.optimiser
    rates = [optimiser.learning_rate_at(epoch, config.epochs, 192) for epoch in (0, 99, 100, 199)]
    assert (config.epochs, optimiser.stage_epochs(config.epochs)) == (200, 100)
    assert rates[:2] == rates[2:]
    assert optimiser.restarts_at(100, config.epochs)
    if name == "lars":
        assert (optimiser.name, optimiser.weight_decay, rates[0]) == ("lars", 1e-6, pytest.approx(0.3 * 192 / 256))
    else:
        assert (optimiser.name, optimiser.weight_decay, rates[0]) == ("adam", 0, 2e-4)
        assert optimiser.learning_rate_at(200, config.epochs) == 2e-5
    assert (config.batch_size, config.objective.name, config.objective.temperature) == (48, "nt_xent", 0.5)
    assert config.model.encoder == ("resnet18_medicalnet" if name == "medicalnet" else "resnet18_no_max_pool")
    assert config.model == ModelConfig(encoder=config.model.encoder)
    views = AugmentationConfig.dihedral() if name == "dihedral" else AugmentationConfig.so3()
    assert config.augmentation == views
    assert (views.final_crop_size, views.final_img_size) == (192, 96)


def test_medicalnet_is_looked_for_below_the_data_root():
    assert published("medicalnet").initial_weights == "data/microns/01_raw/medicalnet/resnet_18.pth"
    moved = published("medicalnet", data_root="gs://bucket/prefix")
    assert moved.initial_weights == "gs://bucket/prefix/01_raw/medicalnet/resnet_18.pth"
    assert published("so3").initial_weights is None


def test_an_unknown_configuration_is_refused_with_the_known_ones():
    with pytest.raises(
        InterpolationResolutionError, match=r"configuration is 'sgd'\. Choose one of: adam, lars, medicalnet"
    ):
        published("so3", configuration="sgd")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_step_moves_every_weight(name, chunks, medicalnet_file):
    given = {"initial_weights": str(medicalnet_file)} if name == "medicalnet" else {}
    module = PretrainingModule(reduced(name, **given))
    before = {key: parameter.detach().clone() for key, parameter in module.model.named_parameters()}
    batch_bcxyz = torch.from_numpy(chunks.read(range(4)))
    trainer = lightning.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(module, train_dataloaders=DataLoader([batch_bcxyz], batch_size=None))
    assert trainer.global_step == 1
    assert torch.isfinite(trainer.callback_metrics["train_loss"])
    still = [key for key, p in module.model.named_parameters() if torch.equal(p.detach(), before[key])]
    assert still == []
    assert all(p.isfinite().all() for p in module.model.parameters())


def test_random_the_untrained_encoder_embeds(chunks):
    config = reduced("so3")
    weights = initialise_encoder(chunks, config)
    layers = embed_store(weights.build(), chunks, config.augmentation, EmbeddingConfig(device="cpu"))
    assert {name: layer.shape for name, layer in layers.items()} == {
        "encoder.fc": (len(chunks), 512),
        "projector.mlp.0": (len(chunks), 512),
        "projector.mlp.3": (len(chunks), 128),
    }
    fresh = config.model.build(config.seed).state_dict()
    learned = [name for name in fresh if "running_" not in name and not name.endswith("num_batches_tracked")]
    assert all(torch.equal(weights.state_dict[name], fresh[name]) for name in learned)


def test_training_starts_from_medicalnet_with_a_projector_of_the_seed(medicalnet_file):
    config = reduced("medicalnet", initial_weights=str(medicalnet_file))
    model, provenance = initial_model(config)
    of_file, of_seed = ModelConfig(encoder="resnet18_medicalnet").build(11), config.model.build(config.seed)
    torch.testing.assert_close(model.encoder.state_dict(), of_file.encoder.state_dict())
    torch.testing.assert_close(model.projector.state_dict(), of_seed.projector.state_dict())
    assert model.training
    assert provenance["initial_weights"] == str(medicalnet_file)


def test_training_goes_on_from_weights_of_ours_and_says_so(chunks, tiny_config, tmp_path):
    tiny_config = tiny_config.model_copy(update={"epochs": 1, "batch_size": 16})
    first = fit(chunks, tiny_config, str(tmp_path / "first"))
    file = tmp_path / "encoder_weights.safetensors"
    file.write_bytes(first.weights.to_bytes())
    config = tiny_config.model_copy(update={"initial_weights": str(file)})
    model, _ = initial_model(config)
    assert EncoderWeights(dict(model.state_dict()), config.model, {}).sha256 == first.weights.sha256
    second = fit(chunks, config, str(tmp_path / "second"))
    assert second.weights.provenance["initial_weights_sha256"] == first.weights.sha256
    assert second.weights.sha256 != first.weights.sha256
    assert "initial_weights" not in first.weights.provenance


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"encoder": "resnet18_no_max_pool"},
            r"has encoder resnet18 \(pretraining.model.encoder is resnet18_no_max_pool",
        ),
        (
            {"projection_dims": (16, 4)},
            r"has projection_dims \(16, 8\) \(pretraining.model.projection_dims is \(16, 4\)",
        ),
    ],
)
def test_weights_of_another_architecture_are_refused(tiny_config, tmp_path, changed, message):
    weights = EncoderWeights(dict(tiny_config.model.build(0).state_dict()), tiny_config.model, {})
    (tmp_path / "encoder_weights.safetensors").write_bytes(weights.to_bytes())
    model = tiny_config.model.model_copy(update=changed)
    config = tiny_config.model_copy(update={"initial_weights": str(tmp_path), "model": model})
    with pytest.raises(ConfigurationError, match=message):
        initial_model(config)


def test_a_checkpoint_of_another_architecture_names_the_first_tensors(tiny_config, tmp_path):
    other = tiny_config.model.model_copy(update={"width_factor": 0.25})
    torch.save(other.build(0).state_dict(), tmp_path / "model_checkpoint_99.pt")
    config = tiny_config.model_copy(update={"initial_weights": str(tmp_path / "model_checkpoint_99.pt")})
    with pytest.raises(
        CheckpointError, match=r"encoder.conv1.weight: expected \(8, .* found \(16, .*width_factor 0.25"
    ):
        initial_model(config)
