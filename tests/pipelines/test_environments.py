"""The environments of public volumes, each run on a small copy that is laid out as the volume is."""

import json
import shutil
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
import yaml
from cave_server import CHUNKED_GRAPH, TOKEN, LoopbackCave, Table, Version, graph_info, root, serve, supervoxel
from click.testing import CliRunner
from documentation import commands
from loopback_volumes import (
    Tissue,
    as_buhmann,
    as_cave,
    as_flyem,
    as_h01,
    as_neuprint,
    as_sjcabs,
    write_cremi,
    write_layer,
)

from synapseclr.commands.synapseclr import check
from synapseclr.volumes import ChunkStore

PROJECT = Path(__file__).resolve().parents[2]
FLY = {"em": [(8, 8, 8), (16, 16, 16)], "segmentation": [(8, 8, 8)]}
FAFB = {"em": [(4, 4, 40), (8, 8, 40), (16, 16, 40)], "segmentation": [(16, 16, 40)]}
EVERYWHERE_NM = [[0, 0, 0], [99_999, 99_999, 99_999]]
MOMENT = pd.Timestamp("2024-12-20 08:10:01")
CODES = {"acetylcholine": 0, "glutamate": 1, "gaba": 2}  # in the order in which conf/flywire names them
WAY = ["preprocessing", "pretraining", "embedding", "imputation", "reporting"]


@dataclass(frozen=True)
class Release:
    """How a public volume is laid out: voxel sizes (nm) by layer, of the chunks, and the form of the table's file."""

    size_nm: tuple
    layers: dict = field(default_factory=dict)
    as_table: object = None
    file: str = "synapses.parquet"
    polyadic: bool = True


RELEASES = {
    "minnie65": Release(
        (8, 8, 40),
        {"em": [(8, 8, 40), (16, 16, 40)], "segmentation": [(8, 8, 40)], "clefts": [(8, 8, 40)]},
        as_cave,
        polyadic=False,
    ),
    "h01": Release(
        (8, 8, 33),
        {"em": [(4, 4, 33), (8, 8, 33)], "segmentation": [(8, 8, 33)], "clefts": [(8, 8, 33)]},
        as_h01,
        polyadic=False,
    ),
    "flywire": Release((16, 16, 40), FAFB, as_sjcabs),
    "fafb": Release((16, 16, 40), FAFB, as_buhmann),
    "hemibrain": Release((8, 8, 8), FLY, as_neuprint, "synapses.feather"),
    "manc": Release((8, 8, 8), FLY, as_neuprint, "synapses.feather"),
    "malecns": Release((8, 8, 8), FLY, as_flyem, "synapses.feather"),
    "cremi": Release((8, 8, 40)),  # averaged from 4 x 4 x 40
}
WITHOUT_CLEFTS = [name for name, release in RELEASES.items() if release.layers and "clefts" not in release.layers]


def served(table: pd.DataFrame) -> pd.DataFrame:
    """A table as CAVE's server has it, with a column for each axis."""
    points = np.stack(table["ctr_pt_position"].to_numpy())
    split = {f"ctr_pt_position_{axis}": points[:, d] for d, axis in enumerate("xyz")}
    return table.drop(columns="ctr_pt_position").assign(**split)


def minnie65_server(tissue: Tissue) -> LoopbackCave:
    """A server with the tables that the environment names, all of version 1300."""
    pairs = tissue.synapses
    cells = pd.unique(pairs[["pre", "post"]].to_numpy().ravel())
    nuclei = pd.DataFrame({"id": 1 + np.arange(len(cells)), "pt_root_id": cells})
    kinds = ("23P", "BC", "6P-CT"), ("L2a", "DTC", "L6short-a")
    cell_types, m_types = (
        pd.DataFrame({"id": nuclei["id"], "target_id": nuclei["id"], "cell_type": np.resize(names, len(cells))})
        for names in kinds
    )
    tags = np.resize(["spine", "shaft", "soma"], len(pairs))
    targets = pd.DataFrame({"id": 1 + np.arange(len(pairs)), "target_id": pairs["id"], "tag": tags})
    tables = {
        "synapses_pni_2": Table(served(as_cave(pairs))),
        "nucleus_detection_v0": Table(nuclei),
        "aibs_metamodel_celltypes_v661": Table(cell_types, reference_table="nucleus_detection_v0"),
        "aibs_metamodel_mtypes_v661_v2": Table(m_types, reference_table="nucleus_detection_v0"),
        "synapse_target_predictions_ssa_v2": Table(targets, reference_table="synapses_pni_2"),
    }
    versions = {1300: Version(MOMENT, tables)}
    return LoopbackCave(datastack="minnie65_public", versions=versions, soma_table="nucleus_detection_v0")


@pytest.fixture(scope="module")
def drawn():
    """Layers of a tissue by voxel size; each is drawn once."""
    known = {}

    def draw(tissue, size_nm):
        if (tissue, size_nm) not in known:
            known[tissue, size_nm] = dict(zip(("em", "segmentation", "clefts"), tissue.draw(size_nm), strict=True))
        return known[tissue, size_nm]

    return draw


@pytest.fixture(scope="module")
def copies(tmp_path_factory, drawn):
    """Makes the copy of a release, and names what of `sources` points to it; layers laid out alike are shared."""
    made = {}

    def layers_of(release, tissue, folder):
        key = json.dumps([release.layers, release.polyadic])
        if key not in made:
            made[key] = {
                layer: write_layer(
                    folder,
                    layer,
                    {size: drawn(tissue, size)[layer] for size in sizes},
                    "jpeg" if layer == "em" else "compressed_segmentation",
                )
                for layer, sizes in release.layers.items()
            }
        return made[key]

    with ExitStack() as servers:

        def copy(name):
            release, folder = RELEASES[name], tmp_path_factory.mktemp(name)
            tissue = Tissue(release.polyadic)
            if name == "cremi":
                return {"file": write_cremi(folder / "sample_A.hdf", tissue)}, tissue
            sources = layers_of(release, tissue, folder)
            if name == "minnie65":
                cave = servers.enter_context(serve(minnie65_server(tissue)))
                return sources | {"server": cave.address, "bounding_box_nm": EVERYWHERE_NM}, tissue
            table, path = release.as_table(tissue.synapses), folder / release.file
            (table.to_feather if path.suffix == ".feather" else table.to_parquet)(path)
            return sources | {"synapses": str(path)}, tissue

        yield copy


@pytest.fixture
def run(run_here, monkeypatch):
    """Runs pipelines in this process, with a token for CAVE."""
    monkeypatch.setitem(fsspec.config.conf, "cave", {"token": TOKEN})
    return run_here


def small_chunks(size_nm):
    """Chunks of half a micrometre."""
    return {"chunk_size_vx": [2 * round(240 / size) for size in size_nm]}


def small_way(size_nm):
    """Parameters with which all pipelines of `WAY` take seconds."""
    parameters = {"preprocessing": small_chunks(size_nm)}
    for pipeline in ("pretraining", "embedding", "imputation"):
        parameters |= yaml.safe_load((PROJECT / f"conf/test/{pipeline}/parameters.yml").read_text())
    parameters["pretraining"] |= {"epochs": 1, "monitoring": {"probe_every_n_epochs": 2}}
    parameters["pretraining"]["augmentation"]["final_crop_size"] = 2 * round(180 / size_nm[0])
    parameters["embedding"] |= {"n_rotations": 1, "magnifications": [1.0]}
    parameters["imputation"] |= {"n_fold_draws": 1, "label_fractions": [0.5]}
    return parameters


def check_chunks(outputs, tissue, release):
    store = ChunkStore(str(outputs / "02_intermediate/synapse_chunks.zarr"))
    np.testing.assert_allclose(store.voxel_size_nm, release.size_nm)
    metadata = pd.read_parquet(outputs / "03_primary/synapse_metadata.parquet").sort_values("synapse_id")
    expected = tissue.synapses
    has_ids = release.as_table in (as_cave, as_buhmann)
    numbers = np.arange(1, 1 + len(expected))
    assert metadata["synapse_id"].tolist() == (expected["id"] if has_ids else pd.Series(numbers)).tolist()
    assert metadata["pre_root_id"].tolist() == expected["pre"].tolist()
    assert metadata["post_root_id"].tolist() == expected["post"].tolist()
    assert not metadata["is_pre_missing"].any()
    assert not metadata["is_post_missing"].any()
    assert metadata["synaptic_cleft_volume"].min() > 0
    return metadata


def check_report(outputs, trait, label):
    """The report has scores of a trait of several classes."""
    evaluation = json.loads((outputs / "08_reporting/evaluation.json").read_text())
    scores = evaluation["representations"]["synapseclr"]["encoder.fc"][trait]
    assert scores["metric"] == "macro_auc"
    assert 0 <= scores["mean"] <= 1
    assert label in (outputs / "08_reporting/report.html").read_text()


@pytest.mark.parametrize("name", [name for name in RELEASES if name not in ("h01", "hemibrain", "manc")])
def test_an_environment_cuts_the_synapses_of_its_release(name, copies, run, tmp_path):
    sources, tissue = copies(name)
    release = RELEASES[name]
    run(name, ["preprocessing"], data_root=str(tmp_path), sources=sources, preprocessing=small_chunks(release.size_nm))
    metadata = check_chunks(tmp_path, tissue, release)
    if name in WITHOUT_CLEFTS:
        assert set(metadata["cleft_source"]) == {"painted"}
    if name == "flywire":  # whose table has transmitters
        annotations = pd.read_parquet(tmp_path / "03_primary/annotations.parquet").sort_values("synapse_id")
        assert annotations["transmitter"].tolist() == [CODES[name] for name in tissue.synapses["transmitter"]]
    if name == "minnie65":
        assert metadata["cleft_id"].tolist() == tissue.synapses["id"].tolist()
        annotations = pd.read_parquet(tmp_path / "03_primary/annotations.parquet")
        assert set(annotations["tag"]) == {0, 1, 2}
        assert set(annotations["m_type_pre"]) <= {0, 12, 17}


def annotate(outputs, tissue, trait, values):
    """Write the annotation table where the environment looks for it."""
    labels = pd.DataFrame({"syn_id": 1 + np.arange(len(tissue.synapses)), trait: values})
    (outputs / "01_raw").mkdir()
    labels.to_csv(outputs / "01_raw/annotations.csv", index=False)


def test_h01_goes_the_whole_way(copies, run, tmp_path):
    sources, tissue = copies("h01")
    annotate(tmp_path, tissue, "post_compartment", np.resize(["DENDRITE", "SOMA", "AIS"], len(tissue.synapses)))
    release = RELEASES["h01"]
    run("h01", WAY, data_root=str(tmp_path), sources=sources, **small_way(release.size_nm))
    check_chunks(tmp_path, tissue, release)
    check_report(tmp_path, "post_compartment", "postsynaptic compartment")


def test_polyadic_synapses_without_clefts_go_the_whole_way(copies, run, tmp_path):
    """Isotropic EM as JPEG, several partners a site, clefts painted, a transmitter for each neurite."""
    sources, tissue = copies("hemibrain")
    annotate(tmp_path, tissue, "transmitter", tissue.synapses["transmitter"])
    release = RELEASES["hemibrain"]
    run("hemibrain", WAY, data_root=str(tmp_path), sources=sources, **small_way(release.size_nm))
    metadata = check_chunks(tmp_path, tissue, release)
    assert set(metadata["cleft_source"]) == {"painted"}
    assert metadata["pre_root_id"].value_counts().min() == 6  # three sites of two partners
    check_report(tmp_path, "transmitter", "transmitter")


def test_the_check_of_the_fly_page_passes(copies, run, tmp_path):
    first, second = commands("docs/fly.md")
    assert first == "kedro synapseclr check --env=hemibrain"
    assert second == "kedro run --env=hemibrain --pipeline=preprocessing"
    sources, _ = copies("hemibrain")
    named = [f"sources.{name}={place}" for name, place in sources.items()]
    params = [f"data_root={tmp_path}", "preprocessing.chunk_size_vx=[60,60,60]", *named]
    done = CliRunner().invoke(check, ["--env=hemibrain", f"--params={','.join(params)}"])
    assert done.exit_code == 0, done.output
    assert "synapse table: 54 synapses" in done.output
    assert f"Preprocessing can begin: {second.replace(' --env=hemibrain', '')} --env=hemibrain" in done.output


def test_one_chunk_a_presynaptic_site(copies, run, tmp_path):
    sources, tissue = copies("manc")
    chosen = sources | {"polyadic": "connectors"}
    run("manc", ["preprocessing"], data_root=str(tmp_path), sources=chosen, preprocessing=small_chunks((8, 8, 8)))
    metadata = pd.read_parquet(tmp_path / "03_primary/synapse_metadata.parquet").sort_values("synapse_id")
    first = tissue.synapses.groupby("site").head(1)
    assert metadata["pre_root_id"].tolist() == first["pre"].tolist()
    assert metadata["post_root_id"].tolist() == first["post"].tolist()
    assert set(metadata["n_partners"]) == {2}
    assert not metadata[["is_pre_missing", "is_post_missing"]].to_numpy().any()


@pytest.fixture
def lab(tmp_path, drawn):
    """A laboratory's own datastack: EM of 7.5 x 7.5 x 50 nm, supervoxels and clefts of 15 x 15 x 50 nm."""
    fine, coarse, tissue = (7.5, 7.5, 50), (15, 15, 50), Tissue(corner_nm=(9000, 15000, 4000))
    write_layer(tmp_path, "em", {fine: drawn(tissue, fine)["em"]}, "raw", tissue.corner_nm)
    layers = drawn(tissue, coarse)
    write_layer(tmp_path, "clefts", {coarse: layers["clefts"]}, "compressed_segmentation", tissue.corner_nm)
    ids = np.unique(layers["segmentation"])[1:]
    numbers = np.searchsorted(ids, layers["segmentation"]) + 1
    pieces = np.where(layers["segmentation"] == 0, 0, supervoxel(numbers)).astype(np.uint64)
    pieces[:, :, 16:] += np.uint64(1000) * (pieces[:, :, 16:] > 0)  # two supervoxels a neurite
    watershed = write_layer(tmp_path, "watershed", {coarse: pieces}, "compressed_segmentation", tissue.corner_nm)
    roots = {int(root_id): int(root(1 + number)) for number, root_id in enumerate(ids)}
    mapping = {int(supervoxel(1 + n + more)): int(root(1 + n)) for n in range(len(ids)) for more in (0, 1000)}
    pairs = tissue.synapses.assign(**{side: tissue.synapses[side].map(roots) for side in ("pre", "post")})
    targets = pd.DataFrame({"id": 1 + np.arange(len(pairs)), "target_id": pairs["id"]})
    targets = targets.assign(tag=np.resize(["spine", "shaft", "soma"], len(pairs)))
    tables = {
        "synapses": Table(served(as_cave(pairs, fine)), resolution_nm=fine),
        "targets": Table(targets, reference_table="synapses"),
    }
    info = graph_info(json.loads(Path(watershed, "info").read_text()), f"precomputed://file://{watershed}")
    moments = [(0.0, {}), (MOMENT.timestamp(), mapping)]
    cave = LoopbackCave(datastack="lab", versions={7: Version(MOMENT, tables)}, roots=moments, graph_info=info)
    configuration = tmp_path / "conf"
    shutil.copytree(PROJECT / "conf", configuration, ignore=shutil.ignore_patterns("local"))
    (configuration / "local").mkdir()
    with serve(cave):
        of_cave = {"server_address": cave.address, "datastack": "lab", "materialization_version": 7}
        graph = {"type": "synapseclr.datasets.GrapheneVolumeDataset", **of_cave}
        table = {"type": "synapseclr.datasets.CaveTableDataset", "table": "synapses", **of_cave}
        table["filepath"] = str(tmp_path / "cave")
        table["annotations"] = [{"table": "targets", "by": "synapse", "columns": {"tag": "tag"}}]
        files = {
            "globals.yml": {
                "data_root": str(tmp_path / "outputs"),
                "voxel_size_nm": [8, 8, 40],
                "axial_to_sagittal_spacing": 5.0,
                "chunk_size_vx": [60, 60, 12],
                "final_crop_size": 44,
                "sources": {"em": str(tmp_path / "em"), "clefts": str(tmp_path / "clefts")},
            },
            "preprocessing/catalog.yml": {
                "segmentation_volume": graph
                | {"filepath": f"graphene://{cave.address}/segmentation/table/{CHUNKED_GRAPH}"},
                "synapse_table": table,
                "annotation_table": table | {"as_annotations": True},
            },
            "parameters_traits.yml": {
                "traits": [{"name": "tag", "kind": "multiclass", "classes": ["spine", "shaft", "soma"], "side": "post"}]
            },
        }
        for name, content in files.items():
            path = configuration / "lab" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(content))
        yield configuration, tissue, pairs


def test_a_datastack_with_a_graph_and_mixed_resolutions_goes_the_whole_way(lab, run, tmp_path):
    pytest.importorskip("caveclient", reason="the extra `cave` is not installed")
    configuration, _, pairs = lab
    run("lab", WAY, configuration, **small_way((8, 8, 40)))
    outputs = tmp_path / "outputs"
    store = ChunkStore(str(outputs / "02_intermediate/synapse_chunks.zarr"))
    np.testing.assert_allclose(store.voxel_size_nm, (8, 8, 40))
    metadata = pd.read_parquet(outputs / "03_primary/synapse_metadata.parquet").sort_values("synapse_id")
    assert metadata["synapse_id"].tolist() == pairs["id"].tolist()
    assert metadata["post_root_id"].tolist() == pairs["post"].tolist()
    assert not metadata["is_pre_missing"].any()
    assert metadata["synaptic_cleft_volume"].min() > 0
    check_report(outputs, "tag", "tag")
