"""The hook over the sessions of a process, and over processes that begin at once."""

import multiprocessing
import shutil
import sys
from types import SimpleNamespace

import mlflow
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from synapseclr.datasets import LedgerDataset
from synapseclr.errors import UnreachableError
from synapseclr.hooks import PipelineClock, RunTracking
from synapseclr.tracking import current_outbox

CALLED = {"tags": None, "node_names": None, "from_nodes": None, "to_nodes": None, "from_inputs": None}
CALLED |= {"load_versions": None, "pipeline_names": ["analysis"], "env": "test", "project_path": "/scratch/ada/project"}


class Context(SimpleNamespace):
    """What the hook needs of Kedro's context."""

    def __init__(self, uri: str) -> None:
        loader = type("Loader", (dict,), {"config_patterns": {"mlflow": []}})
        tracking = {"experiment": {"name": "synapseclr"}}
        super().__init__(
            config_loader=loader(mlflow={"server": {"mlflow_tracking_uri": uri}, "tracking": tracking}),
            project_path=".",
            _package_name="synapseclr",
            _get_config_credentials=dict,
        )


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A database of MLflow's, made once: that takes seconds."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").create_experiment("synapseclr", (path.parent / "artifacts").as_uri())
    return path


@pytest.fixture
def fresh_uri(tmp_path):
    before = mlflow.get_tracking_uri()
    yield f"sqlite:///{tmp_path}/mlflow.db"
    mlflow.set_tracking_uri(before)


@pytest.fixture
def uri(fresh_uri, database, tmp_path):
    shutil.copy(database, tmp_path / "mlflow.db")
    return fresh_uri


@pytest.fixture
def catalog(tmp_path):
    return DataCatalog(
        {"pipeline_seconds": LedgerDataset(filepath=str(tmp_path / "seconds.json")), "x": MemoryDataset(1)}
    )


def begin(tracking, uri, catalog, **params):
    tracking.after_context_created(Context(uri))
    tracking.after_catalog_created(catalog, {}, {}, {}, "", {})
    tracking.before_pipeline_run(CALLED | params, Pipeline([]), catalog)
    for name in ("first", "second"):  # every node used to enter the run once more
        node = Node(lambda x: x, "x", "y", name=name)
        tracking.before_node_run(node, catalog, {"params:imputation": {"folds": 5}}, False)
        tracking.after_node_run()


def runs_of(uri):
    client = mlflow.MlflowClient(uri)
    return client.search_runs([client.get_experiment_by_name("synapseclr").experiment_id], order_by=["start_time ASC"])


def test_every_session_of_a_notebook_is_a_run_of_its_own_and_ends(uri, catalog):
    tracking = RunTracking()
    begin(tracking, uri, catalog)
    tracking.after_pipeline_run()
    begin(tracking, uri, catalog)
    tracking.on_pipeline_error()
    begin(tracking, uri, catalog)  # interrupted: KeyboardInterrupt reaches no hook
    begin(tracking, uri, catalog)
    tracking.after_pipeline_run()
    assert [run.info.status for run in runs_of(uri)] == ["FINISHED", "FAILED", "KILLED", "FINISHED"]
    assert {run.data.params["imputation.folds"] for run in runs_of(uri)} == {"5"}
    assert mlflow.active_run() is None
    assert current_outbox() is None


def test_the_run_tells_neither_passwords_nor_paths_nor_the_users_name(uri, catalog, tmp_path):
    import getpass

    tracking = RunTracking()
    given = {"data_root": str(tmp_path / "data"), "em": {"url": "https://ada:pa55@host/em", "token": "pa55"}}
    begin(tracking, uri, catalog, runtime_params=given)
    tracking.after_pipeline_run()
    (run,) = runs_of(uri)
    told = str(run.data.tags) + str(run.data.params)
    for private in ("pa55", str(tmp_path), "/scratch", sys.prefix):
        assert private not in told
    assert run.info.user_id != getpass.getuser()
    assert run.data.tags["runtime_params"] == str(
        {"data_root": ".../data", "em": {"url": "https://***@host/em", "token": "***"}}
    )


def test_a_session_that_is_not_tracked_leaves_no_database(fresh_uri, catalog, tmp_path, monkeypatch):
    monkeypatch.setenv("SYNAPSECLR_TRACKING", "off")
    tracking = RunTracking()
    begin(tracking, fresh_uri, catalog)
    tracking.after_dataset_saved("x", 1)
    tracking.after_pipeline_run()
    assert not (tmp_path / "mlflow.db").exists()


def test_the_run_of_whoever_began_one_before_the_session_stays_theirs(uri, catalog):
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("synapseclr")
    tracking = RunTracking()
    with mlflow.start_run() as run:
        begin(tracking, uri, catalog)
        tracking.after_pipeline_run()
        assert mlflow.active_run().info.run_id == run.info.run_id
        mlflow.log_metric("own", 1.0)
    (found,) = runs_of(uri)
    assert found.data.metrics == {"own": 1.0}
    assert found.data.params == {"imputation.folds": "5"}


@pytest.mark.parametrize("fault", ["dies", "hangs"])
def test_a_server_that_is_away_at_the_start_is_one_sentence(server, monkeypatch, fault):
    monkeypatch.setattr("synapseclr.hooks.tracking._AT_START_SECONDS", 0.3)
    server.die() if fault == "dies" else setattr(server, "hangs", True)
    with pytest.raises(UnreachableError) as raised:
        RunTracking().after_context_created(Context(server.uri.replace("//", "//ada:pa55@")))
    text = str(raised.value)
    assert text.startswith(f"MLflow at {server.uri.replace('//', '//***@')} cannot be used: it does not answer. ")
    assert "SYNAPSECLR_TRACKING=off" in text
    if fault == "dies":
        server.start()


def test_a_database_that_cannot_be_opened_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UnreachableError, match=r"MLflow at sqlite:///.* cannot be used: .*MLFLOW_TRACKING_URI=sqlite"):
        RunTracking().after_context_created(Context(f"sqlite:///{tmp_path}/file/mlflow.db"))


def begin_at(barrier, uri):
    barrier.wait()
    RunTracking().after_context_created(Context(uri))


def test_first_runs_at_once_make_one_database(fresh_uri):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(3)
    processes = [context.Process(target=begin_at, args=(barrier, fresh_uri)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(mlflow.MlflowClient(fresh_uri).search_experiments()) == 2


def test_the_clock_counts_no_time_between_sessions_and_no_earlier_ones(tmp_path, monkeypatch, catalog):
    now = iter([0.0, 1.0, 3600.0, 3602.0])
    monkeypatch.setattr("synapseclr.hooks.inputs_and_outputs.time.monotonic", lambda: next(now))
    clock = PipelineClock()
    node = Node(lambda x: x, "x", "y", name="embed", tags="embedding")
    for _ in range(2):
        clock.after_catalog_created(catalog)
        clock.before_pipeline_run()
        clock.before_dataset_loaded(node)
        clock.after_dataset_saved(node)
    assert catalog.load("pipeline_seconds") == {"embedding": 2.0}
