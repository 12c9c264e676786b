"""Exports of a run: tables for CAVE and WEBKNOSSOS, and a layer for Neuroglancer."""

import json
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from explorer_runs import FIRST_ID, HOSTILE, make_synapses

from synapseclr.analysis.neuroglancer import NeuroglancerConfig
from synapseclr.commands import explore
from synapseclr.commands.export import export
from synapseclr.errors import TableError
from synapseclr.explorer.exports import (
    cave_reference_table,
    chosen_column,
    colour_shader,
    export_neuroglancer,
    results_table,
    webknossos_links,
)
from synapseclr.explorer.run_outputs import RunOutputs

N = 60


@pytest.fixture
def outputs():
    synapses = make_synapses(N, 8)
    probability = np.linspace(0, 1, N)
    imputed = pd.DataFrame(
        {
            "synapse_id": synapses.obs["synapse_id"].to_numpy(),
            "pre_cell_type_probability": probability,
            "pre_cell_type_probability_sd": 0.1,
        }
    )
    return RunOutputs(synapses, tables={"imputed_traits": imputed})


def test_the_table_has_exact_ids_and_names_of_classes(outputs, tmp_path):
    table = results_table(outputs)
    table.to_csv(tmp_path / "results.csv", index=False)
    read = pd.read_csv(tmp_path / "results.csv", dtype={"pre_root_id": "uint64"})
    assert read["synapse_id"].tolist() == [FIRST_ID + row for row in range(N)]
    assert read["pre_root_id"][1] == 2**63
    assert set(read["pre_cell_type"].dropna()) == {"excitatory", "inhibitory"}
    assert read["pre_cell_type"].isna().sum() == N // 4
    np.testing.assert_allclose(read["pre_cell_type_probability"], np.linspace(0, 1, N), atol=1e-6)


def test_a_cave_table_of_classes_has_tags_of_the_synapses_that_have_one(outputs):
    table = cave_reference_table(outputs, "pre_cell_type")
    assert table.columns.tolist() == ["id", "target_id", "tag"]
    assert len(table) == N - N // 4
    assert table["id"].tolist() == list(range(1, len(table) + 1))
    obs = outputs.synapses.obs.set_index("synapse_id")["pre_cell_type"]
    assert (table["tag"] == np.where(obs.loc[table["target_id"]] == 1, "inhibitory", "excitatory")).all()
    assert table["target_id"].dtype == np.int64


def test_a_cave_table_of_numbers_has_their_uncertainty(outputs):
    table = cave_reference_table(outputs, "pre_cell_type_probability")
    assert table.columns.tolist() == ["id", "target_id", "value", "value2"]
    np.testing.assert_allclose(table["value2"], 0.1, atol=1e-6)


def test_links_lead_to_the_voxel_of_the_data_set(outputs):
    links = webknossos_links(outputs, "https://webknossos.org/datasets/lab-1/view#1,2,3", (11.24, 11.24, 28.0))
    centre = outputs.synapses.obs.iloc[4][[f"centre_{axis}_nm" for axis in "xyz"]].to_numpy(float)
    x, y, z = np.floor(centre / (11.24, 11.24, 28.0)).astype(int)
    assert links["webknossos_url"][4] == f"https://webknossos.org/datasets/lab-1/view#{x},{y},{z},0,0.5"
    with pytest.raises(TableError, match="begins with https://"):
        webknossos_links(outputs, "lab-1", (8, 8, 40))


def test_an_unknown_column_is_answered_with_the_nearest(outputs):
    with pytest.raises(TableError, match=r"no column 'pre_cell_typ'\. Did you mean pre_cell_type"):
        chosen_column(outputs, "pre_cell_typ")
    assert chosen_column(outputs, None).name == "pre_cell_type_probability"
    assert chosen_column(outputs, "presynaptic cell type").name == "pre_cell_type"


def test_the_link_holds_volumes_layer_and_shader(outputs, tmp_path):
    config = NeuroglancerConfig(em="gs://lab/em", segmentation="gs://lab/seg")
    run = RunOutputs(outputs.synapses, tables=outputs.tables, neuroglancer=config)
    link = export_neuroglancer(run, str(tmp_path / "layer"), "pre_cell_type", "https://lab.example/layer")
    state = json.loads(unquote(link.partition("#!")[2]))
    assert [layer["type"] for layer in state["layers"]] == ["image", "segmentation", "annotation"]
    layer = state["layers"][2]
    assert layer["source"] == "precomputed://https://lab.example/layer"
    assert layer["linkedSegmentationLayer"]["pre_root_id"] == "segmentation"
    assert layer == json.loads((tmp_path / "layer/neuroglancer_layer.json").read_text())
    assert "prop_pre_cell_type()" in layer["shader"]
    info = json.loads((tmp_path / "layer/info").read_text())
    assert {"pre_cell_type", "leiden_cluster", "pre_cell_type_probability"} <= {
        each["id"] for each in info["properties"]
    }


def test_no_link_to_what_a_browser_cannot_read(outputs, tmp_path):
    assert export_neuroglancer(outputs, str(tmp_path / "layer"), None) is None


def test_class_names_cannot_leave_their_comment_in_the_shader(outputs):
    column = chosen_column(outputs, "leiden_cluster")
    shader = colour_shader("leiden_cluster", column)
    line = next(line for line in shader.splitlines() if HOSTILE in line)
    assert line.index("//") < line.index(HOSTILE)
    assert shader.count("if (value ==") == 3


def test_the_command_writes_a_file_and_says_what_is_in_it(outputs, tmp_path, monkeypatch):
    monkeypatch.setattr(explore, "load_outputs", lambda env, params: outputs)
    runner = CliRunner()
    out = str(tmp_path / "links.csv")
    arguments = ["webknossos", "--out", out, "--dataset", "https://wk.example/view", "--voxel-size", "8,8,40"]
    result = runner.invoke(export, arguments)
    assert result.exit_code == 0, result.output
    assert f"{out}: 60 rows, columns synapse_id, webknossos_url." in result.output
    assert len(pd.read_csv(out)) == N
    result = runner.invoke(export, [*arguments[:-1], "8,8"])
    assert "not three numbers" in result.output
    result = runner.invoke(export, ["csv", "--out", str(tmp_path / "results.xlsx")])
    assert result.exit_code != 0
    assert "ends in .csv or .parquet" in result.output
