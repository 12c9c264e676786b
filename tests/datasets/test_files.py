"""Outputs are written whole or not at all; datasets that are only read say why they cannot be saved."""

import contextlib
import errno
import json
import logging
import os
from pathlib import Path

import anndata
import fsspec
import matplotlib.figure
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import yaml
from kedro.io import AbstractDataset, DataCatalog, DatasetError, MemoryDataset
from kedro.io.core import parse_dataset_definition
from kedro.pipeline import node, pipeline
from PIL import Image

from synapseclr.datasets import (
    AnnDataFolderDataset,
    AnnDataZarrDataset,
    ChunkSourceDataset,
    ChunkStoreDataset,
    CSVDataset,
    EncoderWeightsDataset,
    FeatureFilesDataset,
    FolderDataset,
    JSONDataset,
    LedgerDataset,
    MatplotlibDataset,
    OmeZarrVolumeDataset,
    OptionalCSVDataset,
    OptionalJSONDataset,
    ParquetDataset,
    PlotlyJSONDataset,
    PrecomputedVolumeDataset,
    PublishedCheckpointDataset,
    QueryChunksDataset,
    TextDataset,
    files,
)
from synapseclr.errors import OutputError
from synapseclr.hooks import OutputCare
from synapseclr.models import EncoderWeights, ModelConfig
from synapseclr.pipeline_registry import register_pipelines
from synapseclr.plotting.theme import mark_synapse
from synapseclr.storage.atomic_files import MANIFEST
from synapseclr.volumes.layers.layer import VolumeArray

PROJECT = Path(__file__).resolve().parents[2]
TABLE = pd.DataFrame({"synapse_id": [1, 2, 3], "value": [0.5, 1.5, 2.5]})


def weights() -> EncoderWeights:
    model = ModelConfig(encoder="resnet18", width_factor=0.125, projection_dims=(16, 8))
    return EncoderWeights(dict(model.build(0).state_dict()), model, {})


CASES = {
    "t.csv": (CSVDataset, {"save_args": {"index": False}}, lambda: TABLE),
    "t.parquet": (ParquetDataset, {}, lambda: TABLE),
    "m.json": (JSONDataset, {"save_args": {"indent": 2}}, lambda: {"a": 1.0, "b": 2.0}),
    "r.html": (TextDataset, {}, lambda: "<html>\n<p>report</p>\n</html>\n"),
    "f.json": (PlotlyJSONDataset, {}, lambda: go.Figure(go.Scatter(x=[1, 2], y=[3, 4]))),
    "w.safetensors": (EncoderWeightsDataset, {}, weights),
}


def test_every_output_of_the_catalog_is_of_a_kind_that_is_written_whole():
    whole = {getattr(files, name) for name in dir(files) if name.endswith("Dataset")}
    whole |= {AnnDataZarrDataset, ChunkStoreDataset, EncoderWeightsDataset, LedgerDataset, PrecomputedVolumeDataset}
    written = {name for found in register_pipelines().values() for name in found.all_outputs()} | {"pipeline_seconds"}
    seen = 0
    for path in sorted((PROJECT / "conf").glob("*/*/catalog.yml")):
        for name, entry in yaml.safe_load(path.read_text()).items():
            if name in written and isinstance(entry, dict) and "type" in entry:
                kind, _ = parse_dataset_definition({k: v for k, v in entry.items() if k != "validator"})
                is_only_read = issubclass(kind, files.ReadOnlyDataset)
                assert kind in whole | {MemoryDataset} or is_only_read, f"{name} in {path}"
                seen += 1
    assert seen > 60


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("where", ["half", "line"])
def test_an_output_that_is_cut_is_an_error_that_names_it(tmp_path, name, where):
    kind, options, make = CASES[name]
    dataset = kind(filepath=f"{tmp_path}/{name}", **options)
    dataset.save(make())
    dataset.load()
    content = (tmp_path / name).read_bytes()
    kept = len(content) // 2 if where == "half" else content.rstrip(b"\n").rfind(b"\n") + 1
    (tmp_path / name).write_bytes(content[:kept])
    with pytest.raises(DatasetError, match=rf"{name} is cut short: it has {kept} of the {len(content)} bytes"):
        dataset.load()
    dataset.save(make())
    dataset.load()


@pytest.mark.parametrize("name", [*CASES, "p.png"])
def test_a_save_that_fails_leaves_the_old_output(tmp_path, name, monkeypatch):
    kind, options, make = CASES.get(name, (MatplotlibDataset, {}, matplotlib.figure.Figure))
    dataset = kind(filepath=f"{tmp_path}/{name}", **options)
    dataset.save(make())
    content = (tmp_path / name).read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("synapseclr.storage.atomic_files.os.fsync", full)
    with pytest.raises(DatasetError, match=rf"{name} cannot be written \(No space left on device\)"):
        dataset.save(make())
    assert (tmp_path / name).read_bytes() == content
    assert {path.name for path in tmp_path.iterdir()} == {name, ".written"}


def test_a_disk_that_fills_up_within_a_write_is_named_with_the_output(tmp_path, monkeypatch):
    def fill(self, path_or_buf, **options):
        path_or_buf.write("synapse_id,")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fill)
    with pytest.raises(DatasetError, match=r"/t\.csv cannot be written \(No space left on device\)\. .* Make room"):
        CSVDataset(filepath=f"{tmp_path}/t.csv").save(TABLE)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_saved_for_another_reason_keeps_its_message(tmp_path):
    with pytest.raises(DatasetError, match=r"filepath=.*/m\.json'(?s:.*)not JSON serializable"):
        JSONDataset(filepath=f"{tmp_path}/m.json").save({"a": object()})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("protected", ["results", "results/07/t.csv"])
def test_outputs_that_cannot_be_written_end_a_run_at_its_start(tmp_path, monkeypatch, protected):
    dataset = CSVDataset(filepath=f"{tmp_path}/results/07/t.csv")
    if protected == "results":
        (tmp_path / "results").mkdir()
    else:
        dataset.save(TABLE)
    access = os.access
    monkeypatch.setattr(
        "synapseclr.storage.atomic_files.os.access",
        lambda path, mode: str(path) != f"{tmp_path}/{protected}" and access(path, mode),
    )
    made = pipeline([node(lambda: TABLE, None, "t", name="make")])
    with pytest.raises(OutputError, match=r"t\.csv cannot be written \(.*write-protected\)"):
        OutputCare().before_pipeline_run(made, DataCatalog({"t": dataset}))


def test_in_a_bucket_nothing_but_the_output_is_written():
    dataset = CSVDataset(filepath="memory://bucket/only-this.csv", save_args={"index": False})
    dataset.save(TABLE)
    assert dataset.load().equals(TABLE)
    assert [path for path in fsspec.filesystem("memory").store if "only-this" in path] == ["/only-this.csv"]


def test_the_message_names_the_pipeline_that_made_the_output(tmp_path):
    catalog = DataCatalog({"t": CSVDataset(filepath=f"{tmp_path}/t.csv", save_args={"index": False})})
    OutputCare().before_node_run(node(lambda: TABLE, None, "t", name="make", tags="imputation"))
    catalog.save("t", TABLE)
    OutputCare().before_node_run(node(lambda: TABLE, None, "t", name="make"))
    (tmp_path / "t.csv").write_bytes(b"synapse_id,value\n")
    with pytest.raises(DatasetError, match="Run `kedro run --pipeline=imputation` again"):
        catalog.load("t")


def test_every_node_is_of_a_pipeline_that_can_be_run_again():
    pipelines = register_pipelines()
    for made in pipelines["demo"].nodes:
        assert made in pipelines[min(made.tags)].nodes


def test_what_killed_runs_left_is_removed_when_the_next_one_starts(tmp_path):
    leftover = tmp_path / ".t.csv.elsewhere.1.01234567.partial"
    leftover.write_bytes(b"")
    os.utime(leftover, (0, 0))
    catalog = DataCatalog({"t": CSVDataset(filepath=f"{tmp_path}/t.csv"), "b": CSVDataset(filepath="memory://b/t.csv")})
    OutputCare().before_pipeline_run(pipeline([node(lambda: (TABLE, TABLE), None, ["t", "b"], name="make")]), catalog)
    assert not leftover.exists()


def embeddings(value: float) -> anndata.AnnData:
    """Two chunks' worth of nothing but a value."""
    obs = pd.DataFrame({"synapse_id": [11, 12, 13]}, index=["11", "12", "13"])
    return anndata.AnnData(np.full((3, 4), value, np.float32), obs=obs)


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path) -> str:
    return str(tmp_path / "a.zarr") if request.param == "local" else f"memory://{tmp_path.name}/a.zarr"


@pytest.mark.parametrize("key", ["X/c/0/0", "obs/synapse_id/c/0", "zarr.json"])
def test_a_lost_chunk_of_a_matrix_is_an_error_and_not_zeros(place, key):
    dataset = AnnDataZarrDataset(filepath=place)
    dataset.save(embeddings(1.0))
    filesystem, path = fsspec.core.url_to_fs(place)
    filesystem.rm_file(f"{path}/{key}")
    with pytest.raises(DatasetError, match=f"a.zarr has lost its file {key}, which would be read as zeros"):
        dataset.load()


def test_a_matrix_from_elsewhere_is_read_unchecked(place):
    dataset = AnnDataZarrDataset(filepath=place)
    dataset.save(embeddings(1.0))
    filesystem, path = fsspec.core.url_to_fs(place)
    filesystem.rm_file(f"{path}/{MANIFEST}")
    assert dataset.load().X[0, 0] == 1.0


def test_nothing_is_left_beside_a_matrix(place):
    for value in (1.0, 2.0):
        AnnDataZarrDataset(filepath=place).save(embeddings(value))
    filesystem, path = fsspec.core.url_to_fs(place)
    assert [found.rpartition("/")[2] for found in filesystem.ls(path.rpartition("/")[0], detail=False)] == ["a.zarr"]
    assert AnnDataZarrDataset(filepath=place).load().X[0, 0] == 2.0


def test_no_moment_of_a_save_to_a_bucket_loses_the_matrix(tmp_path, monkeypatch):
    """The filesystem fails at the n-th change, for every n; then it is read, and saved again."""

    def write(value, folder):
        for key in ("zarr.json", "X/c/0", f"only-of/{value}"):
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).write_text(str(value))

    def read(folder, address):
        folder = Path(folder)
        (only,) = (folder / "only-of").iterdir()
        return {int(path.read_text()) for path in (folder / "zarr.json", folder / "X/c/0", only)}

    monkeypatch.setattr(AnnDataZarrDataset, "_write", staticmethod(write))
    monkeypatch.setattr("synapseclr.storage.foreign_files.read_anndata", read)
    name = f"memory://{tmp_path.name}/a.zarr"
    filesystem, path = fsspec.core.url_to_fs(name)
    seen = []
    for n in range(1, 100):
        AnnDataZarrDataset(filepath=name).save(1)
        dataset = AnnDataZarrDataset(filepath=name)
        dataset._filesystem = FailingAt(filesystem, n)
        with contextlib.suppress(DatasetError):
            dataset.save(2)
        (value,) = AnnDataZarrDataset(filepath=name).load()
        seen.append(value)
        if dataset._filesystem.n_left > 0:
            break
    assert sorted(seen) == seen  # the old one up to some moment, then the new one
    assert set(seen) == {1, 2}
    assert len(seen) > 10
    assert not filesystem.exists(f"{path}.partial")


class FailingAt:
    """A filesystem that fails at its n-th change, and at all later ones."""

    def __init__(self, filesystem, n: int) -> None:
        self._filesystem, self.n_left = filesystem, n

    def __getattr__(self, name: str):
        method = getattr(self._filesystem, name)
        if name not in ("put", "put_file", "pipe_file", "cp_file", "rm", "rm_file"):
            return method

        def change(*arguments, **options):
            self.n_left -= 1
            if self.n_left <= 0:
                raise ConnectionError("killed")
            return method(*arguments, **options)

        return change


def test_a_volume_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    dataset = PrecomputedVolumeDataset(filepath=str(tmp_path / "em"), layer_type="image")
    dataset.save(VolumeArray(np.full((8, 8, 8), 1, np.uint8), (16, 16, 40)))

    def full(self, *arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cloudvolume.frontends.precomputed.CloudVolumePrecomputed.__setitem__", full)
    with pytest.raises(DatasetError, match="em cannot be written"):
        dataset.save(VolumeArray(np.full((8, 8, 8), 2, np.uint8), (16, 16, 40)))
    layer = dataset.load().at_resolution((16, 16, 40))
    assert layer.read(np.zeros(3, int), np.full(3, 8)).max() == 1
    assert [path.name for path in tmp_path.iterdir()] == ["em"]


def test_records_are_of_what_was_saved_last(tmp_path):
    dataset = JSONDataset(filepath=f"{tmp_path}/m.json")
    for value in range(4):
        dataset.save({"a": value})
    record = json.loads((tmp_path / ".written/m.json.json").read_text())
    assert len(record["versions"]) == 2
    assert isinstance(dataset, AbstractDataset)
    assert dataset.load() == {"a": 3}


def test_a_saved_figure_loads_as_the_bytes_of_its_picture(tmp_path):
    dataset = MatplotlibDataset(filepath=f"{tmp_path}/f.png", save_args={"dpi": 40})
    figure = matplotlib.figure.Figure(figsize=(2, 1))
    mark_synapse(figure.add_axes((0.5, 0.0, 0.5, 1.0)), 12)
    dataset.save(figure)
    assert dataset.load() == (tmp_path / "f.png").read_bytes()
    assert Image.open(tmp_path / "f.png").info["Synapses"] == '[["12", 0.5, 0.0, 0.5, 1.0]]'
    (tmp_path / "f.png").write_bytes(b"cut")
    with pytest.raises(DatasetError, match=r"f\.png"):
        dataset.load()


def test_a_section_that_was_not_written_is_empty(tmp_path):
    dataset = OptionalJSONDataset(filepath=f"{tmp_path}/sections/manifold.json")
    assert dataset.load() == {}
    dataset.save({"sections": []})
    assert dataset.load() == {"sections": []}


def test_a_table_that_is_there_is_read(tmp_path):
    dataset = OptionalCSVDataset(filepath=str(tmp_path / "truth.csv"), save_args={"index": False})
    table = pd.DataFrame({"synapse_id": [1, 2**60 + 1], "defect": ["blackout", None]})
    dataset.save(table)
    pd.testing.assert_frame_equal(dataset.load(), table)


def test_a_missing_table_is_empty_and_a_broken_one_an_error(tmp_path):
    dataset = OptionalCSVDataset(filepath=str(tmp_path / "truth.csv"))
    assert dataset.load().empty
    (tmp_path / "truth.csv").write_text('synapse_id\n"unclosed')
    with pytest.raises(DatasetError):
        dataset.load()


def test_entries_add_up_over_runs(tmp_path):
    path = str(tmp_path / "08_reporting/seconds.json")
    assert LedgerDataset(filepath=path).load() == {}
    LedgerDataset(filepath=path).save({"simulation": 3.5, "embedding": 99.0})
    LedgerDataset(filepath=path).save({"embedding": 1.0})
    assert LedgerDataset(filepath=path).load() == {"simulation": 3.5, "embedding": 1.0}


def test_a_damaged_file_ends_no_run(tmp_path):
    path = tmp_path / "seconds.json"
    path.write_text('{"simulation": 3.')
    ledger = LedgerDataset(filepath=str(path))
    assert ledger.load() == {}
    ledger.save({"embedding": 1.0})
    assert json.loads(path.read_text()) == {"embedding": 1.0}


def test_a_place_that_cannot_be_written_costs_one_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    ledger = LedgerDataset(filepath=str(tmp_path / "file/seconds.json"))
    with caplog.at_level(logging.WARNING):
        ledger.save({"a": 1})
        ledger.save({"b": 1})
    assert caplog.text.count("could not be written") == 1
    assert ledger.load() == {}


def test_a_bucket_keeps_entries_and_its_faults_end_no_run(monkeypatch):
    ledger = LedgerDataset(filepath="memory://ledger/seconds.json")
    ledger.save({"a": 1})
    ledger.save({"b": 2})
    assert ledger.load() == {"a": 1, "b": 2}

    def refuse(*_, **__):
        raise ConnectionError("the bucket does not answer")

    monkeypatch.setattr(fsspec.filesystem("memory"), "cat_file", refuse)
    monkeypatch.setattr(fsspec.filesystem("memory"), "pipe_file", refuse)
    ledger.save({"c": 3})
    assert ledger.load() == {}


@pytest.mark.parametrize(("url", "is_local"), [("memory://a/b.json", False), ("a/b.json", True)])
def test_only_a_local_file_has_a_local_path(url, is_local):
    assert (LedgerDataset(filepath=url).local_path is not None) == is_local


@pytest.mark.parametrize(
    ("dataset", "reason"),
    [
        (AnnDataFolderDataset(filepath="a/{b}"), "a/{b} is filled by hand"),
        (ChunkSourceDataset(kind="volumes"), "A chunk source is read"),
        (FeatureFilesDataset(filepath="a"), "Published features are read"),
        (FolderDataset(filepath="a"), "a is a folder that nodes write into"),
        (OmeZarrVolumeDataset(filepath="gs://bucket/em.zarr"), "gs://bucket/em.zarr is an OME-Zarr volume"),
        (PublishedCheckpointDataset(filepath="a.pt", model={}), "a.pt holds published weights"),
        (QueryChunksDataset(), "A query is read"),
    ],
)
def test_saving_is_refused_with_the_reason(dataset, reason):
    with pytest.raises(DatasetError, match=reason):
        dataset.save(object())
