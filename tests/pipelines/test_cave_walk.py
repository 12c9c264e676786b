"""docs/cave.md walked literally, on a loopback CAVE server: what it prints is typed, addresses aside."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from cave_server import CHUNKED_GRAPH, LoopbackCave, Table, Version, graph_info, root, serve, supervoxel
from documentation import PROJECT, code_blocks, commands
from mlflow.tracking import MlflowClient
from readers_project import Reader

from synapseclr.simulation import SimulationConfig, simulate
from synapseclr.volumes import ChunkStore, write_precomputed

pytest.importorskip("caveclient", reason="the extra `cave` is not installed")

SIZE_NM = (16.0, 16.0, 40.0)
VERSION, MOMENT = 943, pd.Timestamp("2024-01-22 08:10:01.25")
SMALL = {
    "globals.yml": {"voxel_size_nm": list(SIZE_NM), "axial_to_sagittal_spacing": 2.5},
    "preprocessing/parameters.yml": {"preprocessing": {"chunk_size_vx": [80, 80, 32]}},
}


def served_table(volume):
    """The synapses of a simulated volume as CAVE has them: its own column names, positions in 4 x 4 x 40 nm."""
    table = volume.synapse_table
    served = pd.DataFrame({"id": 2**53 + 1 + np.arange(len(table)), "valid": True})
    for side in ("pre", "post"):
        served[f"{side}_pt_supervoxel_id"] = supervoxel(table[f"{side}_root_id"])
        served[f"{side}_pt_root_id"] = root(table[f"{side}_root_id"])
    for axis, name in enumerate("xyz"):
        scale = SIZE_NM[axis] / (4, 4, 40)[axis]
        served[f"ctr_pt_position_{name}"] = np.round(table[f"ctr_pos_{name}_vx"] * scale).astype(np.int64)
    return served.assign(size=np.arange(1, 1 + len(table)))


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Volumes on the disk; the segmentation as supervoxels, two a neurite."""
    folder = tmp_path_factory.mktemp("lab")
    config = SimulationConfig.small(shape_vx=(176, 176, 64), n_dendrites=8, n_fillers=20, annotated_fraction=1.0)
    volume = simulate(config)
    write_precomputed(volume.em_xyz, f"file://{folder}/em", SIZE_NM, "image")
    write_precomputed(volume.cleft_xyz, f"file://{folder}/clefts", SIZE_NM, "segmentation")
    names = np.unique(volume.segmentation_xyz)
    neurites = volume.segmentation_xyz.astype(np.int64)
    pieces = np.where(neurites == 0, 0, supervoxel(neurites)).astype(np.uint64)
    pieces[:, :, 32:] += np.uint64(1_000_000) * (pieces[:, :, 32:] > 0)
    write_precomputed(pieces, f"file://{folder}/watershed", SIZE_NM, "segmentation")
    info = graph_info(json.loads((folder / "watershed/info").read_text()), f"precomputed://file://{folder}/watershed")
    mapping = {int(supervoxel(n + piece)): int(root(n)) for n in names[names > 0] for piece in (0, 1_000_000)}
    synapses = served_table(volume)
    neurons = [synapses["pre_pt_root_id"].iloc[0], synapses["post_pt_root_id"].iloc[0]]
    nuclei = pd.DataFrame({"id": [11, 12], "pt_root_id": neurons})
    types = pd.DataFrame({"id": [1, 2], "target_id": [11, 12], "cell_type": ["BC", "23P"]})
    tables = {
        "synapses_pni_2": Table(synapses),
        "nucleus_detection_v0": Table(nuclei),
        "aibs_metamodel_celltypes_v661": Table(types, reference_table="nucleus_detection_v0"),
    }
    cave = LoopbackCave(
        datastack="minnie65_public",
        versions={VERSION: Version(MOMENT, tables)},
        roots=[(0.0, {}), (MOMENT.timestamp(), mapping)],
        graph_info=info,
        soma_table="nucleus_detection_v0",
    )
    with serve(cave):
        yield folder, cave


@pytest.fixture(scope="module")
def reader(lab, tmp_path_factory):
    """A project after the second section of the page."""
    folder, cave = lab
    project = tmp_path_factory.mktemp("project")
    skip = shutil.ignore_patterns("*.egg-info", "local")  # compiled kernels come along in __pycache__
    for name in ("src", "conf"):
        shutil.copytree(PROJECT / name, project / name, ignore=skip)
    (project / "pyproject.toml").symlink_to(PROJECT / "pyproject.toml")
    reader = Reader(project, folder, 0)
    replaced = {
        "graphene://https://minnie.microns-daf.com/segmentation/table/minnie65_public": (
            f"graphene://{cave.address}/segmentation/table/{CHUNKED_GRAPH}"
        ),
        "https://bossdb-open-data.s3.amazonaws.com/iarpa_microns/minnie/minnie65": str(folder),
        "https://global.daf-apis.com": cave.address,
        "[[600000, 500000, 800000], [620000, 520000, 820000]]": "[[-9, -9, -9], [9999, 9999, 9999]]",
    }
    for block in code_blocks("docs/cave.md", "bash"):
        if "pip install" in block:
            continue
        for there, here in replaced.items():
            block = block.replace(there, here)
        reader.types(block)
    for name, change in SMALL.items():
        path = project / "conf/mycave" / name
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **change}))
    return reader


def test_the_page_leads_from_a_datastack_to_chunks(reader, lab):
    _, cave = lab
    check, run = commands("docs/cave.md")
    printed = reader.types(check).printed
    assert f"root ids of the synapse table: version {VERSION} (2024-01-22T08:10:01.250000+00:00)" in printed
    assert f"root ids of the segmentation volume: version {VERSION} (" in printed
    asked = len(cave.queries)
    reader.types(run)
    assert len(cave.queries) == asked, "the tables were fetched by the check"
    outputs = reader.project / "data/mycave"
    served = cave.versions[VERSION].tables["synapses_pni_2"].rows
    store = ChunkStore(str(outputs / "02_intermediate/synapse_chunks.zarr"))
    assert set(store.synapse_id) == set(served["id"])
    metadata = pd.read_parquet(outputs / "03_primary/synapse_metadata.parquet").set_index("synapse_id")
    assert metadata["pre_root_id"].to_dict() == served.set_index("id")["pre_pt_root_id"].to_dict()
    assert metadata["pre_root_id"].min() > 2**53
    first = served["id"].iloc[0]
    assert metadata.loc[first, "cell_type_of_post"] == "23P"
    annotations = pd.read_parquet(outputs / "03_primary/annotations.parquet")
    assert annotations["cleft_size_log1p_zscore"].notna().all()
    known = annotations.set_index("synapse_id")["cell_type_of_pre"]
    assert known[first] == 7  # BC, by the page's list of classes
    nuclei = cave.versions[VERSION].tables["nucleus_detection_v0"].rows
    assert known.notna().sum() == served["pre_pt_root_id"].isin(nuclei["pt_root_id"]).sum()
    report = json.loads((outputs / "08_reporting/preprocessing_report.json").read_text())
    assert report["synapse_source"]["materialization_version"] == VERSION
    section = (outputs / "08_reporting/sections/preprocessing.json").read_text()
    assert "materialization version" in section
    assert "minnie65_public" in section
    client = MlflowClient(f"sqlite:///{reader.project}/mlflow.db")
    (ran,) = client.search_runs([client.get_experiment_by_name("synapseclr").experiment_id])
    assert ran.data.tags["synapse_table.materialization_version"] == str(VERSION)
    assert report["n_pre_missing"] == report["n_post_missing"] == 0
