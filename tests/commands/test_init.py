"""`kedro synapseclr init`: from addresses of layers and a table to an environment that runs."""

import shlex
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import warm_process
import yaml
from click.testing import CliRunner
from documentation import code_blocks, shell_variables
from loopback_volumes import Tissue, as_cave, as_sjcabs, write_cremi, write_layer

from synapseclr.commands.init import init

PROJECT = Path(__file__).resolve().parents[2]
SIZE_NM = (16, 16, 40)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Layers and tables of a laboratory; the EM has a finer scale than the rest."""
    lab = tmp_path_factory.mktemp("lab")
    fine, drawn = Tissue().draw((8, 8, 40))[0], Tissue().draw(SIZE_NM)
    write_layer(lab, "em", {(8, 8, 40): fine, SIZE_NM: drawn[0]}, "raw")
    for name, array in zip(("segmentation", "clefts"), drawn[1:], strict=True):
        write_layer(lab, name, {SIZE_NM: array}, "compressed_segmentation")
    as_cave(Tissue().synapses).to_csv(lab / "synapses.csv", index=False)
    as_sjcabs(Tissue().synapses).to_parquet(lab / "fly.parquet")
    write_cremi(lab / "sample.hdf", Tissue())
    return lab


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of its own, so that no environment is written into this one."""
    shutil.copytree(PROJECT / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("local"))
    (tmp_path / "src").mkdir()  # the package is installed
    (tmp_path / "pyproject.toml").symlink_to(PROJECT / "pyproject.toml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(project, lab):
    def run(name="mine", table="synapses.csv", *more, **layers):
        places = {"em": lab / "em", "segmentation": lab / "segmentation", "cleft": lab / "clefts"} | layers
        options = [f"--{layer}={place}" for layer, place in places.items() if place is not None]
        return CliRunner().invoke(init, [name, *options, f"--table={lab / table}", *more])

    return run


def written(project, name="mine"):
    files = (project / "conf" / name).rglob("*.yml")
    return {str(path.relative_to(project / "conf" / name)): yaml.safe_load(path.read_text()) for path in files}


def test_the_commands_of_the_page_lead_from_addresses_to_chunks(project, lab):
    """Typed as a user does: init, what it says is next, and preprocessing."""
    first = (
        f"kedro synapseclr init mine --em {lab}/em --segmentation {lab}/segmentation --cleft {lab}/clefts "
        f"--table {lab}/synapses.csv"
    )

    def types(command):
        variables = shell_variables(COLUMNS="200", SYNAPSECLR_TRACKING="off")
        words = [sys.executable, "-m", *shlex.split(command)]
        done = warm_process.run(words, cwd=project, env=variables, timeout=300)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    printed = types(first)
    assert "EM volume: 8 x 8 x 40 nm, 16 x 16 x 40 nm" in printed
    assert "27 synapses, form cave, positions in units of 4 x 4 x 40 nm" in printed
    (following,) = [line.removeprefix("Next: ") for line in printed.splitlines() if line.startswith("Next: ")]
    assert following == "kedro synapseclr check --env mine"
    assert "Preprocessing can begin: kedro run --pipeline=preprocessing --env=mine" in types(following)
    types("kedro run --pipeline=preprocessing --env=mine")
    metadata = pd.read_parquet(project / "data/mine/03_primary/synapse_metadata.parquet")
    assert sorted(metadata["synapse_id"]) == Tissue().synapses["id"].tolist()
    assert not metadata["is_pre_missing"].any()


def test_sizes_follow_from_the_layers(run, project):
    done = run()
    assert done.exit_code == 0, done.output
    files = written(project)
    assert files["globals.yml"]["voxel_size_nm"] == list(SIZE_NM)
    assert files["globals.yml"]["axial_to_sagittal_spacing"] == 2.5
    assert files["globals.yml"]["chunk_size_vx"] == [64, 64, 26]
    assert files["globals.yml"]["final_crop_size"] == 48
    assert files["preprocessing/catalog.yml"]["synapse_table"]["unit_nm"] == [4, 4, 40]
    assert files["pretraining/parameters.yml"]["pretraining"]["batch_size"] == 8
    assert "preprocessing/parameters.yml" not in files


def test_without_a_cleft_layer_clefts_are_painted(run, project):
    done = run("mine", "fly.parquet", "--polyadic=connectors", cleft=None)
    assert done.exit_code == 0, done.output
    assert "27 synapses, form sjcabs, positions in units of 1 x 1 x 1 nm" in done.output
    files = written(project)
    assert files["preprocessing/parameters.yml"] == {"preprocessing": {"cleft": "painted"}}
    assert files["preprocessing/catalog.yml"]["synapse_table"]["polyadic"] == "connectors"
    assert "clefts" not in files["globals.yml"]["sources"]


def test_another_voxel_size_is_taken_and_what_is_resampled_said(run, project):
    done = run("mine", "synapses.csv", "--voxel-size=8,8,40")
    assert done.exit_code == 0, done.output
    assert "chunks: 8 x 8 x 40 nm; to be resampled: segmentation volume, cleft volume" in done.output
    assert written(project)["globals.yml"]["chunk_size_vx"] == [128, 128, 26]


def test_an_environment_is_never_overwritten(run, project):
    assert run().exit_code == 0
    before = written(project)
    again = run("mine", "fly.parquet")
    assert again.exit_code == 1
    assert "conf/mine is there already, and is not overwritten." in again.output
    assert written(project) == before


def test_layers_of_other_formats_get_entries_of_their_own(run, project, lab):
    arrays = {"em": "raw", "segmentation": "labels/neuron_ids", "cleft": "labels/clefts"}
    done = run("mine", "sample.hdf", **{name: f"{lab}/sample.hdf/volumes/{array}" for name, array in arrays.items()})
    assert done.exit_code == 0, done.output
    catalog = written(project)["preprocessing/catalog.yml"]
    assert catalog["cleft_volume"]["type"] == "synapseclr.datasets.Hdf5VolumeDataset"
    assert catalog["cleft_volume"]["array"] == "volumes/labels/clefts"
    assert "form cremi, positions in units of 1 x 1 x 1 nm" in done.output
    assert not {"form", "unit_nm"} & set(catalog["synapse_table"])  # recognised when it is read


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a b", "synapses.csv"), "An environment cannot be called 'a b'"),
        (("base", "synapses.csv"), "neither base nor local"),
        (("mine", "absent.csv"), "absent.csv"),
        (("mine", "synapses.csv", "--voxel-size=8,8"), "--voxel-size is '8,8', expected three lengths in nm"),
        (("mine", "synapses.csv", "--form=flywire"), "no form 'flywire' of synapse tables"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_and_nothing_is_written(run, project, arguments, said):
    done = run(*arguments)
    assert done.exit_code == 1
    assert said in done.output.replace("\n", " ")
    assert not (project / "conf/mine").exists()


def test_a_table_of_another_version_is_said(run, project, lab):
    table = as_cave(Tissue().synapses)
    table.assign(pre_pt_root_id=table["pre_pt_root_id"] + 10**6).to_csv(lab / "other.csv", index=False)
    done = run("mine", "other.csv")
    assert done.exit_code == 1
    assert "The unit of the table's positions was not found" in done.output
    assert "Take table and segmentation of one version" in done.output.replace("\n", " ")
    assert not (project / "conf/mine").exists()


def test_the_command_of_the_fly_page_makes_an_environment_without_clefts(project, lab):
    (line,) = [line for line in code_blocks("docs/fly.md", "bash") if line.startswith("kedro synapseclr init")]
    typed = line.replace("gs://bucket", str(lab)).replace("synapses.parquet", f"{lab}/fly.parquet")
    done = CliRunner().invoke(init, shlex.split(typed)[3:])
    assert done.exit_code == 0, done.output
    assert "27 synapses, form sjcabs" in done.output
    files = written(project, "myfly")
    assert any(text.get("preprocessing", {}).get("cleft") == "painted" for text in files.values())
