import re

import fsspec
import numpy as np
import pytest
import torch
import yaml

from synapseclr.errors import CheckpointError, ConfigurationError
from synapseclr.models import EncoderWeights, ModelConfig, export, load_encoder, model_card

CONFIG = ModelConfig(encoder="resnet18", in_channels=2, width_factor=0.125, projection_dims=(16, 8))
METRICS = {"post_cell_type": {"roc_auc": np.float32(0.940123), "std": float("nan")}, "epochs": 100}
DATA = {"volume": "MICrONS L2/3 | pinky100", "voxel_size_nm": [8, 8, 40], "segmentation": {"version": 185}}


@pytest.fixture(scope="module")
def weights():
    return EncoderWeights(dict(CONFIG.build(3).state_dict()), CONFIG, {"seed": "3", "epochs": "100"})


@pytest.fixture(scope="module")
def card(weights):
    return model_card(weights, METRICS, DATA, "BSD-3-Clause")


def sections(card):
    return dict(part.split("\n", 1) for part in card.split("\n## ")[1:])


def test_a_card_has_its_sections(card):
    names = ["Load it", "Data", "Configuration", "Metrics", "Licence", "Intended use and limits"]
    assert list(sections(card)) == names
    assert card.startswith("# SynapseCLR encoder `resnet18`\n\nMaps a 3D electron-microscopy image of a synapse to 64")


def test_nested_values_become_rows_that_a_table_can_hold(card):
    parts = sections(card)
    assert r"| volume | MICrONS L2/3 \| pinky100 |" in parts["Data"]
    assert "| voxel_size_nm | 8, 8, 40 |" in parts["Data"]
    assert "| segmentation / version | 185 |" in parts["Data"]
    assert "| post_cell_type / roc_auc | 0.9401 |" in parts["Metrics"]
    assert "| post_cell_type / std | undefined |" in parts["Metrics"]
    assert "| epochs | 100 |" in parts["Metrics"]


def test_the_configuration_is_that_of_the_weights(card, weights):
    configuration = sections(card)["Configuration"]
    for row in ("in_channels | 2: presynaptic", "width_factor | 0.125", "projection_dims | 16, 8", "seed | 3"):
        assert f"| {row}" in configuration
    parameters = sum(p.numel() for p in weights.build().parameters())
    assert f"| parameters | {parameters:,} |" in configuration
    assert weights.sha256 in configuration


def test_the_example_of_an_exported_card_runs_in_five_lines(weights, tmp_path, monkeypatch):
    export(weights, tmp_path, metrics=METRICS, data=DATA, licence="BSD-3-Clause")
    code = re.search(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), re.DOTALL).group(1)
    assert len(code.splitlines()) == 5
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)
    assert names["features_bf"].shape == (1, 64)
    assert torch.equal(names["model"].encoder.conv1.weight, weights.state_dict["encoder.conv1.weight"])


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("BSD-3-Clause", {"license": "bsd-3-clause"}),
        ("Ask Ada: ada's 'own'", {"license": "other", "license_name": "Ask Ada: ada's 'own'"}),
    ],
)
def test_the_front_matter_is_yaml_for_the_hub(weights, tmp_path, licence, expected):
    export(weights, tmp_path, metrics={}, data={}, licence=licence)
    _, front, card = (tmp_path / "README.md").read_text().split("---\n", 2)
    front = yaml.safe_load(front)
    assert {key: front[key] for key in front if key.startswith("license")} == expected
    assert front["library_name"] == "synapseclr"
    assert "connectomics" in front["tags"]
    assert card.lstrip() == model_card(weights, {}, {}, licence)
    assert "None were measured." in card
    assert "Not stated." in card


def test_exports_reach_urls_and_load_again(weights):
    folder = export(weights, "memory://hub/synapses", metrics={}, data=DATA, licence="MIT")
    assert {path.rsplit("/")[-1] for path in fsspec.filesystem("memory").ls("hub/synapses", detail=False)} == {
        "README.md",
        "encoder_weights.safetensors",
    }
    assert torch.equal(load_encoder(folder).encoder.bn1.weight, weights.state_dict["encoder.bn1.weight"])


def test_files_are_only_replaced_on_request(weights, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(CheckpointError, match=r"has README.md already.*overwrite=True"):
        export(weights, tmp_path, metrics={}, data={}, licence="MIT")
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    export(weights, tmp_path, metrics={}, data={}, licence="MIT", overwrite=True)
    assert "SynapseCLR encoder" in (tmp_path / "README.md").read_text()


def test_weights_that_do_not_fit_are_not_exported(weights, tmp_path):
    broken = EncoderWeights({**weights.state_dict, "encoder.bn1.weight": torch.ones(3)}, CONFIG, {})
    with pytest.raises(CheckpointError, match=r"encoder.bn1.weight: expected \(8,\), found \(3,\)"):
        export(broken, tmp_path, metrics={}, data={}, licence="MIT")
    assert not list(tmp_path.iterdir())


def test_a_licence_is_required(weights):
    with pytest.raises(ConfigurationError, match=r"needs the licence"):
        model_card(weights, METRICS, DATA, " ")


@pytest.mark.parametrize(
    ("provenance", "origin"),
    [
        ({"epochs": "100"}, "learned without labels"),
        ({"epochs": "0"}, "Its weights are random"),
        ({"kind": "medicalnet", "initialised": "projector"}, "never been trained on synapses"),
    ],
)
def test_a_card_does_not_claim_more_than_the_weights_are(weights, provenance, origin):
    card = model_card(EncoderWeights(weights.state_dict, CONFIG, provenance), {}, {}, "MIT")
    assert origin in card
    assert ("the projector has never been trained" in card) == ("initialised" in provenance)
    assert ("learned without labels" in card) == (provenance == {"epochs": "100"})
