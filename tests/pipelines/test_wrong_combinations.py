"""Tables, volumes, labels and weights that do not belong together: each ends in one sentence that says what to do."""

import numpy as np
import pandas as pd
import pytest
from loopback_volumes import Tissue, as_h01, write_layer

from synapseclr.hooks.error_sentences import sentence_of
from synapseclr.models import EncoderWeights, ModelConfig

SIZE_NM = (8, 8, 33)
SIDES = ("pre_synaptic_site", "post_synaptic_partner")
MODEL = {"encoder": "region_resnet", "width_factor": 0.125, "in_channels": 2, "projection_dims": [16, 8]}
SMALL = {
    "preprocessing": {"chunk_size_vx": [60, 60, 14]},
    "pretraining": {"model": MODEL, "augmentation": {"final_crop_size": 44, "final_img_size": 16}},
}


@pytest.fixture(scope="module")
def layers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layers")
    layers = dict(zip(("em", "segmentation", "clefts"), Tissue().draw(SIZE_NM), strict=True))
    encodings = {"em": "raw", "segmentation": "compressed_segmentation", "clefts": "compressed_segmentation"}
    return {name: write_layer(folder, name, {SIZE_NM: array}, encodings[name]) for name, array in layers.items()}


@pytest.fixture
def sentence(run_here, layers, tmp_path):
    """Runs pipelines on a table, annotations and weights, and returns the sentence in which they end."""

    def sentence(pipelines=("preprocessing",), table=None, annotations=None, weights=None):
        table = as_h01(Tissue().synapses) if table is None else table
        table.to_parquet(tmp_path / "synapses.parquet")
        for place, content in (
            ("01_raw/annotations.csv", annotations),
            ("06_models/encoder_weights.safetensors", weights),
        ):
            if content is not None:
                (tmp_path / place).parent.mkdir(exist_ok=True)
                (tmp_path / place).write_bytes(content)
        sources = layers | {"synapses": str(tmp_path / "synapses.parquet")}
        with pytest.raises(Exception) as raised:  # noqa: PT011 of whatever kind: it must have a sentence
            run_here("h01", list(pipelines), data_root=str(tmp_path), sources=sources, **SMALL)
        told = sentence_of(raised.value)
        assert told is not None, raised.value
        return told

    return sentence


def table_of_another_version():
    table = as_h01(Tissue().synapses)
    return {"table": table.assign(**{f"{name}.neuron_id": table[f"{name}.neuron_id"] + 10**6 for name in SIDES})}


def positions_in_nm():
    table = as_h01(Tissue().synapses)
    return {
        "table": table.assign(
            **{f"location.{axis}": table[f"location.{axis}"] * SIZE_NM["xyz".index(axis)] for axis in "xyz"}
        )
    }


def a_class_that_is_not_declared():
    labels = pd.DataFrame({"syn_id": 1 + np.arange(27), "post_compartment": ["DENDRITE"] * 26 + ["SPINE"]})
    return {"annotations": labels.to_csv(index=False).encode()}


def weights_of_another_voxel_size():
    model = ModelConfig(**MODEL)
    scale = {"voxel_size_nm": "8 x 8 x 40", "view_voxel_nm": "48 x 48 x 48"}
    weights = EncoderWeights(model.build(seed=0).state_dict(), model, scale)
    return {"pipelines": ("preprocessing", "embedding"), "weights": weights.to_bytes()}


@pytest.mark.parametrize(
    ("combination", "named", "advice"),
    [
        (table_of_another_version, "another version of the segmentation", "Take table and segmentation of one version"),
        (positions_in_nm, "the positions are in units of 1 x 1 x 1 nm", "set unit_nm of the catalog's synapse_table"),
        (a_class_that_is_not_declared, "SPINE", "post_compartment"),
        (weights_of_another_voxel_size, "48 x 48 x 48 nm a voxel", "set embedding.resample_to_weights to true"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_does_not_belong_together_is_one_sentence(sentence, combination, named, advice):
    told = sentence(**combination())
    assert named in told
    assert advice in told
    assert "\n" not in told
    assert "Traceback" not in told
