"""Links into Neuroglancer."""

import json
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
import yaml

from synapseclr.analysis.neuroglancer import NeuroglancerConfig, neuroglancer_url, synapse_links

ROOT = 648518346349500560


def _state(url):
    return json.loads(unquote(url.split("#!")[1]))


def test_link_goes_to_the_place_and_selects_the_neurites():
    config = NeuroglancerConfig(em="gs://bucket/em", segmentation="precomputed://gs://bucket/seg")
    url = neuroglancer_url((1000.0, 2000.5, 40.0), (ROOT, ROOT + 1), config)
    assert url.startswith("https://neuroglancer-demo.appspot.com/#!")
    assert not set(' "{}<>') & set(url)
    state = _state(url)
    assert state["position"] == [1000.0, 2000.5, 40.0]
    assert state["dimensions"]["z"] == [1e-9, "m"]
    assert [layer["source"] for layer in state["layers"]] == [
        "precomputed://gs://bucket/em",
        "precomputed://gs://bucket/seg",
    ]
    assert state["layers"][1]["segments"] == [str(ROOT), str(ROOT + 1)]


def test_segmentation_may_be_left_out():
    state = _state(neuroglancer_url((0, 0, 0), (ROOT,), NeuroglancerConfig(em="https://host/em")))
    assert [layer["type"] for layer in state["layers"]] == ["image"]


@pytest.mark.parametrize("em", [None, "data/01_raw/em", "file:///data/em", "precomputed://file:///data/em"])
def test_what_a_browser_cannot_read_makes_no_link(em):
    assert neuroglancer_url((0, 0, 0), (), NeuroglancerConfig(em=em)) is None


def test_tables_keep_64_bit_ids_exact():
    places = {f"centre_{axis}_nm": [1.0, 2.0] for axis in "xyz"}
    obs = pd.DataFrame({**places, "pre_root_id": [ROOT + 1, ROOT + 3], "post_root_id": [ROOT + 5, ROOT + 7]})
    links = synapse_links(obs, NeuroglancerConfig(em="gs://b/em", segmentation="gs://b/seg"))
    assert _state(links[1])["layers"][1]["segments"] == [str(ROOT + 3), str(ROOT + 7)]
    assert synapse_links(obs, NeuroglancerConfig()) == [None, None]
    assert synapse_links(obs.drop(columns="centre_x_nm"), NeuroglancerConfig(em="gs://b/em")) == [None, None]


def test_configured_parameters_are_valid():
    configured = yaml.safe_load((Path(__file__).parents[2] / "conf/base/parameters.yml").read_text())["neuroglancer"]
    for name in ("em", "segmentation"):  # those of an environment with public sources, else none
        assert configured.pop(name).endswith(f"sources.{name},null}}}}")
    assert NeuroglancerConfig(**configured) == NeuroglancerConfig()
