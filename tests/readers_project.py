"""A project of a reader's, set up as docs/own_data.md says, on a small simulated volume."""

import json
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import anndata
import warm_process
import yaml
from documentation import PROJECT, code_blocks, shell_variables

from synapseclr.models import EncoderWeights
from synapseclr.simulation import SimulationConfig, simulate
from synapseclr.volumes import write_precomputed

SMALL = {
    "preprocessing": {"chunk_size_vx": [80, 80, 32]},
    "pretraining": {
        "epochs": 2,
        "batch_size": 8,
        "model": {"width_factor": 0.125, "projection_dims": [16, 8]},
        "augmentation": {"final_crop_size": 64, "final_img_size": 16, "cutout_size_min": 2, "cutout_size_max": 5},
        "monitoring": {"probe_every_n_epochs": 25},
    },
}


@dataclass
class Step:
    """What one command did."""

    printed: str
    written: set[str]
    kept: dict = field(default_factory=dict)


@dataclass
class Reader:
    """A project of a reader's, with data in a folder of the laboratory's."""

    project: Path
    lab: Path
    n_synapses: int
    has_started: bool = False

    @property
    def outputs(self) -> Path:
        return self.project / "data/mine"

    def types(self, command: str) -> Step:
        """Type lines of a page; Kedro's commands but the first are forked from a process that has imported Kedro."""
        start = time.time()
        options = {"cwd": self.project, "env": shell_variables(COLUMNS="200"), "timeout": 600}
        is_of_kedro = command.startswith("kedro ")
        if is_of_kedro and self.has_started and "\n" not in command.strip():
            done = warm_process.run([sys.executable, "-m", *shlex.split(command)], **options)
        else:
            done = subprocess.run(["bash", "-euc", command], capture_output=True, text=True, **options)
        self.has_started |= is_of_kedro
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        files = (path for path in self.outputs.rglob("*") if path.is_file() and path.stat().st_mtime > start)
        return Step(done.stdout, {str(path.relative_to(self.outputs)).split(".zarr")[0] for path in files})

    @property
    def embeddings(self) -> anndata.AnnData:
        return anndata.read_zarr(self.outputs / "07_model_output/synapse_embeddings.zarr")

    @property
    def weights(self) -> EncoderWeights:
        path = self.outputs / "06_models/encoder_weights.safetensors"
        return EncoderWeights.from_bytes(path.read_bytes(), str(path))

    def evaluation(self) -> dict:
        return json.loads((self.outputs / "08_reporting/evaluation.json").read_text())


def set_up(project: Path, lab: Path) -> Reader:
    """The project after the second step of docs/own_data.md, with small sizes."""
    skip = shutil.ignore_patterns("*.egg-info", "mine", "local")  # compiled kernels come along in __pycache__
    for folder in ("src", "conf", "scripts"):
        shutil.copytree(PROJECT / folder, project / folder, ignore=skip)
    for name in ("pyproject.toml", "notebooks"):
        (project / name).symlink_to(PROJECT / name)
    reader = Reader(project, lab, _write_lab(lab))
    (make_environment,) = [block for block in code_blocks("docs/own_data.md", "bash") if "synapseclr init" in block]
    reader.types(make_environment.replace("/lab/", f"{lab}/"))
    mine = project / "conf/mine"
    assert yaml.safe_load((mine / "globals.yml").read_text())["data_root"] == "data/mine"
    for pipeline in ("consensus", "features", "imputation", "manifold"):
        shutil.copytree(project / "conf/test" / pipeline, mine / pipeline)
    for pipeline, change in SMALL.items():
        (mine / pipeline).mkdir(exist_ok=True)
        (mine / pipeline / "parameters.yml").touch()
        _merge(mine / pipeline / "parameters.yml", {pipeline: change})
    return reader


def _merge(path: Path, change: dict) -> None:
    """Change some values of a YAML file."""

    def merged(old: dict, new: dict) -> dict:
        return old | {
            key: merged(old.get(key, {}), value) if isinstance(value, dict) else value for key, value in new.items()
        }

    path.write_text(yaml.safe_dump(merged(yaml.safe_load(path.read_text()) or {}, change)))


def _write_lab(lab: Path) -> int:
    """Volumes and tables of a laboratory; ids count from 1, so that the pages' examples occur."""
    config = SimulationConfig.small(shape_vx=(272, 272, 80), n_dendrites=14, n_fillers=40, annotated_fraction=1.0)
    volume = simulate(config)
    layers = {"em": volume.em_xyz, "segmentation": volume.segmentation_xyz, "clefts": volume.cleft_xyz}
    for name, array_xyz in layers.items():
        layer_type = "image" if name == "em" else "segmentation"
        write_precomputed(array_xyz, f"file://{lab}/{name}", volume.voxel_size_nm, layer_type)
    new_id = {old: new for new, old in enumerate(volume.synapse_table["id"], start=1)}
    volume.synapse_table.assign(id=volume.synapse_table["id"].map(new_id)).to_csv(lab / "synapses.csv", index=False)
    annotations = volume.annotation_table
    annotations.assign(syn_id=annotations["syn_id"].map(new_id)).to_csv(lab / "annotations.csv", index=False)
    return len(new_id)
