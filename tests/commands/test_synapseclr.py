"""`kedro synapseclr check` on a tiny volume: what it prints, draws and ends with."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from synapseclr.commands.run import nested_parameters
from synapseclr.commands.synapseclr import check, synapseclr
from synapseclr.errors import ConfigurationError
from synapseclr.volumes import PrecomputedLayer, check_synapse_table, write_precomputed
from synapseclr.volumes.annotations import RAW_COLUMNS
from synapseclr.volumes.table_forms import standard_synapse_table

PROJECT = Path(__file__).resolve().parents[2]
CASES = PROJECT.parent / "shared/cases/tables"
FIRST_ROOT, SHAPE = 648_518_346_349_500_000, (224, 224, 72)


@dataclass
class Project:
    """Volumes that the shared tables fit: the neurites of a synapse lie above and below its centre."""

    root: Path
    table: pd.DataFrame

    def __call__(self, **columns):
        self.table.assign(**columns).to_csv(self.root / "01_raw/simulated/synapses.csv", index=False)
        return self.run()

    def run(self, *more):
        params = f"data_root={self.root},preprocessing.chunk_size_vx=[24,24,12]"
        return CliRunner().invoke(check, ["--env=test", f"--params={params}", *more])


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    root = tmp_path_factory.mktemp("check")
    raw = root / "01_raw/simulated"
    rng = np.random.default_rng(0)
    centre_vx = np.stack([rng.permutation(np.arange(20, 200, 6))[:24] for _ in range(3)], axis=1) % (200, 200, 56) + 8
    ids_xyz, labels_xyz = np.zeros(SHAPE, np.uint64), np.zeros(SHAPE, np.uint32)
    table = pd.DataFrame({"id": np.arange(1, 25), "pre_root_id": FIRST_ROOT + 11, "post_root_id": FIRST_ROOT + 6})
    table[["ctr_pos_x_vx", "ctr_pos_y_vx", "ctr_pos_z_vx"]] = centre_vx
    for label, (x, y, z) in enumerate(centre_vx, start=1):
        ids_xyz[x - 3 : x, y - 3 : y + 3, z - 2 : z + 2] = FIRST_ROOT + 11
        ids_xyz[x : x + 3, y - 3 : y + 3, z - 2 : z + 2] = FIRST_ROOT + 6
        labels_xyz[x, y - 1 : y + 1, z] = label
    em_xyz = rng.integers(1, 255, SHAPE).astype(np.uint8)
    for name, array in (("em", em_xyz), ("segmentation", ids_xyz), ("clefts", labels_xyz)):
        kind = "image" if name == "em" else "segmentation"
        write_precomputed(array, f"file://{raw}/{name}", (16, 16, 40), kind, (64, 64, 24))
    pd.DataFrame(columns=RAW_COLUMNS).to_csv(raw / "annotations.csv", index=False)
    return Project(root, table)


@pytest.fixture
def project(volumes, monkeypatch):
    monkeypatch.chdir(PROJECT)
    return volumes


def test_inputs_that_fit_end_with_0_a_table_and_a_picture(project, tmp_path):
    done = project()
    assert done.exit_code == 0, done.output
    assert "synapse table: 24 synapses, 0 of them annotated" in done.output
    assert "EM volume: file://" in done.output
    assert "voxels 0 x 0 x 0 to 224 x 224 x 72; uint64; compressed_segmentation, blocks of 64 x 64 x 24" in done.output
    assert "without either neurite                       0 of 20 (0 %)" in done.output
    picture = project.root / "08_reporting/first_chunk.png"
    assert f"first chunk: {picture}" in done.output.replace("\n", "")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert project.run(f"--picture={tmp_path}/elsewhere.png").exit_code == 0
    assert (tmp_path / "elsewhere.png").read_bytes().startswith(b"\x89PNG")


def test_a_table_of_another_version_ends_with_1_and_says_so(project):
    done = project(pre_root_id=FIRST_ROOT + 1011, post_root_id=FIRST_ROOT + 1006)
    assert done.exit_code == 1
    assert "ERROR    20 of 20 (100 %) synapses tried: neither root id of the synapse table" in done.output
    assert "another version of the segmentation" in done.output
    assert "would stop preprocessing" in done.output


def test_autapses_end_with_0_and_a_warning(project):
    done = project(post_root_id=project.table["pre_root_id"])
    assert done.exit_code == 0
    assert "warning  24 of 24 (100 %) synapses have the same pre_root_id and post_root_id" in done.output


@pytest.mark.skipif(not CASES.exists(), reason=f"the shared tables are not at {CASES}")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cave_raw", "synapse_table cannot be used. The synapse table lacks"),
        ("cave_split_4nm", "synapse_table cannot be used. The synapse table lacks"),
        ("excel", "pre_root_id"),
        ("other_version", "another version of the segmentation"),
    ],
)
def test_the_shared_tables_that_are_wrong_end_with_1(project, name, said):
    shutil.copy(CASES / f"{name}.csv", project.root / "01_raw/simulated/synapses.csv")
    if name == "other_version":  # their positions, in volumes whose neurites are everywhere
        table = pd.read_csv(CASES / f"{name}.csv").head(len(project.table))
        table[["ctr_pos_x_vx", "ctr_pos_y_vx", "ctr_pos_z_vx"]] = project.table.iloc[:, 3:]
        table.to_csv(project.root / "01_raw/simulated/synapses.csv", index=False)
    done = project.run()
    assert done.exit_code == 1
    assert said in done.output


def test_a_parameter_that_cannot_be_used_is_named(project):
    done = project.run("--params=preprocessing.check_synapses=many")
    assert done.exit_code == 1
    assert "preprocessing.check_synapses" in done.output


def test_layers_that_are_resampled_and_clefts_that_are_painted(project):
    """Of the clefts' path nothing is looked at where they are painted."""
    project()
    more = "preprocessing.voxel_size_nm=[20,20,50],preprocessing.position_voxel_size_nm=[16,16,40]"
    root = f"data_root={project.root},preprocessing.chunk_size_vx=[24,24,12]"
    done = CliRunner().invoke(check, ["--env=test", f"--params={root},{more},preprocessing.cleft=painted"])
    assert done.exit_code == 0, done.output
    assert "scale 16 x 16 x 40 nm, resampled to 20 x 20 x 50 nm; voxels 0 x 0 x 0 to 224 x 224 x 72" in done.output
    assert "cleft volume" not in done.output
    assert "whose two segments do not touch nearby       0 of 20 (0 %)" in done.output


def test_sides_that_a_table_does_not_know_are_found_by_vesicles(project, tmp_path):
    """Vesicles lie in the neurite that the table calls postsynaptic."""
    project()
    segments = PrecomputedLayer(f"file://{project.root}/01_raw/simulated/segmentation").at_resolution((16, 16, 40))
    is_vesicle = segments.read(np.zeros(3, int), np.array(SHAPE)) == FIRST_ROOT + 6
    write_precomputed(is_vesicle.astype(np.uint32), f"file://{tmp_path}/v", (16, 16, 40), "segmentation", (64, 64, 24))
    root = f"data_root={project.root},preprocessing.chunk_size_vx=[24,24,12]"
    command = ["sides", f"{tmp_path}/v", f"{tmp_path}/sides.csv", "--env=test", f"--params={root}", "--radius-nm=50"]
    done = CliRunner().invoke(synapseclr, command)
    assert done.exit_code == 0, done.output
    assert "the sides of 24 of 24 synapses; 24 of them stood the other way" in done.output
    table = pd.read_csv(tmp_path / "sides.csv")
    assert (table["presynaptic_root_id"] == FIRST_ROOT + 6).all()
    read = check_synapse_table(standard_synapse_table(table, unit_nm=(4.0, 4.0, 40.0)), (16.0, 16.0, 40.0))
    assert (read["pre_root_id"] == FIRST_ROOT + 6).all()
    given = pd.read_csv(project.root / "01_raw/simulated/synapses.csv").set_index("id")
    assert np.allclose(read["ctr_pos_x_vx"], given.loc[read["id"], "ctr_pos_x_vx"])


def test_lists_are_one_value():
    given = nested_parameters("a.b=[4, 4, 40],data_root=gs://x/y,a.c=3")
    assert given == {"a": {"b": [4, 4, 40], "c": 3}, "data_root": "gs://x/y"}
    with pytest.raises(ConfigurationError, match="--params has 'b', expected name=value"):
        nested_parameters("a=1,b")
