import os
import platform

import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro.runner import Task
from kedro_datasets.json import JSONDataset
from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING

from synapseclr.datasets import AnnDataZarrDataset, LedgerDataset, PublishedCheckpointDataset
from synapseclr.errors import ConfigurationError
from synapseclr.hooks import FreedMemory, OneWriter, PipelineClock, ReadOnlyGuard, RunTracking, SimulationGuard
from synapseclr.hooks.tracking import _system_metrics
from synapseclr.storage.sharded_anndata import MatrixShards, ShardedMatrix
from synapseclr.tracking import Outbox, set_current_outbox


def simulation_of(path):
    pipeline = Pipeline([Node(lambda: 1, None, "em_volume", name="simulate")], tags="simulation")
    return pipeline, DataCatalog({"em_volume": JSONDataset(filepath=str(path))})


def test_the_simulation_may_write_below_a_folder_named_simulated(tmp_path):
    pipeline, catalog = simulation_of(tmp_path / "01_raw/simulated/em")
    SimulationGuard().before_pipeline_run(pipeline, catalog)


def test_the_simulation_never_writes_where_raw_data_lie(tmp_path):
    pipeline, catalog = simulation_of(tmp_path / "01_raw/microns/em")
    with pytest.raises(ConfigurationError, match=r"would overwrite em_volume at .*microns/em"):
        SimulationGuard().before_pipeline_run(pipeline, catalog)


def test_a_run_that_would_write_published_weights_stops_before_any_node():
    weights = PublishedCheckpointDataset(filepath="model_checkpoint_99.pt", model={})
    pipeline = Pipeline([Node(lambda: 1, None, "encoder_weights", name="train_encoder")])
    with pytest.raises(ConfigurationError, match="would write encoder_weights, which is only read"):
        ReadOnlyGuard().before_pipeline_run(pipeline, DataCatalog({"encoder_weights": weights}))


def test_the_clock_adds_up_nodes_and_keeps_earlier_pipelines(tmp_path):
    seconds = LedgerDataset(filepath=str(tmp_path / "s.json"))
    seconds.save({"simulation": 3.5, "embedding": 99.0})
    clock = PipelineClock()
    clock.after_catalog_created(DataCatalog({"pipeline_seconds": seconds}))
    node = Node(lambda x: x, "x", "y", name="embed", tags="embedding")
    clock.before_dataset_loaded(node)
    clock.after_dataset_saved(node)
    assert seconds.load()["simulation"] == 3.5
    assert 0 <= seconds.load()["embedding"] < 5


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [(None, "y"), ("x", None), ("x", "y")],
    ids=["without inputs", "without outputs", "with both"],
)
def test_the_clock_counts_nodes_without_inputs_and_without_outputs(tmp_path, monkeypatch, inputs, outputs):
    now = iter(range(0, 100, 10))
    monkeypatch.setattr("synapseclr.hooks.inputs_and_outputs.time.monotonic", lambda: next(now))
    seconds = LedgerDataset(filepath=str(tmp_path / "s.json"))
    catalog = DataCatalog({"pipeline_seconds": seconds, "x": MemoryDataset(1), "y": MemoryDataset()})
    clock = PipelineClock()
    clock.after_catalog_created(catalog)
    hooks = _create_hook_manager()
    hooks.register(clock)
    node = Node(
        (lambda: 1) if inputs is None else (lambda x: x if outputs else None), inputs, outputs, name="n", tags="p"
    )
    Task(node, catalog, is_async=False, hook_manager=hooks).execute()
    assert seconds.load()["p"] > 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no malloc_trim")
def test_memory_that_a_node_freed_in_small_pieces_goes_back_to_the_system():
    node = Node(lambda x: x, "x", "y", name="embed")
    hook = FreedMemory()
    pieces = [np.ones(1_000) for _ in range(20_000)]  # 160 MB
    kept = pieces[::100]
    del pieces
    before = psutil.Process().memory_info().rss
    hook.before_dataset_loaded(node)
    assert before - psutil.Process().memory_info().rss > 100e6
    assert len(kept) == 200


@pytest.mark.parametrize("choice", [None, "false", "true"])
def test_system_metrics_are_on_for_runs_that_train_unless_the_environment_says_otherwise(monkeypatch, choice):
    name = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
    monkeypatch.delenv(name, raising=False)
    if choice is not None:
        monkeypatch.setenv(name, choice)
    with _system_metrics(wanted=True):
        assert MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get() == (choice != "false")
    assert os.environ.get(name) == choice  # a run that is opened again starts no second sampling
    with _system_metrics(wanted=False):
        assert MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get() == (choice == "true")


@pytest.mark.parametrize("machine", [0, 1])
def test_only_machine_0_writes(tmp_path, monkeypatch, machine):
    monkeypatch.setattr("synapseclr.hooks.inputs_and_outputs.machine_index", lambda: machine)
    weights = JSONDataset(filepath=str(tmp_path / "weights.json"))
    catalog = DataCatalog({"weights": weights})
    node = Node(lambda x: x, "x", "weights", name="train")
    OneWriter().after_node_run(node, catalog, {})
    catalog.save("weights", {"a": 1})
    assert catalog.load("weights") == {"a": 1}
    assert weights.exists() == (machine == 0)


def test_of_shards_on_a_shared_disk_the_other_machines_read_what_machine_0_has_moved(tmp_path, monkeypatch):
    features_nf, obs = np.ones((5, 3), np.float32), pd.DataFrame(index=list("abcde"))
    machines = [AnnDataZarrDataset(filepath=str(tmp_path / "e.zarr")) for _ in range(2)]
    shards = MatrixShards(machines[0].work_address, 5, {"X": 3}, "digest")
    for shard in shards.begin():
        shards.write(shard, {"X": features_nf})
    matrix = ShardedMatrix(shards, obs, {})
    for machine, dataset in enumerate(machines):
        monkeypatch.setattr("synapseclr.hooks.inputs_and_outputs.machine_index", lambda machine=machine: machine)
        catalog = DataCatalog({"e": dataset})
        OneWriter().after_node_run(Node(lambda x: x, "x", "e", name="embed"), catalog, {"e": matrix})
        catalog.save("e", matrix)
        np.testing.assert_array_equal(catalog.load("e").X, features_nf)
    assert [dataset.is_saved_elsewhere for dataset in machines] == [False, True]


def test_the_other_machines_end_their_tracking(tmp_path, monkeypatch, request):
    monkeypatch.setattr("synapseclr.hooks.tracking.machine_index", lambda: 1)
    before = mlflow.get_tracking_uri()
    request.addfinalizer(lambda: mlflow.set_tracking_uri(before))
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    run_id = mlflow.start_run().info.run_id
    mlflow.start_run(run_id=run_id, nested=True)  # as a node of somebody's may do
    tracking = RunTracking()
    tracking._is_mlflow_enabled, tracking._already_active_mlflow, tracking.run_id = True, False, run_id
    set_current_outbox(Outbox(mlflow.get_tracking_uri(), run_id, tmp_path))
    tracking.after_node_run()
    assert mlflow.active_run() is None
    assert mlflow.get_run(run_id).data.tags["machine"] == "1"
    assert not tracking._is_mlflow_enabled
    assert tracking.run_id is None
