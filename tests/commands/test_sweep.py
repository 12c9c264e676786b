"""A sweep through Kedro's command line, on the chunks of the tiny demo."""

import subprocess
import sys
from pathlib import Path

import pytest
import warm_process
from mlflow import MlflowClient

from synapseclr.commands.run import parse_assignments
from synapseclr.commands.sweep import Sweep, _find_or_create
from synapseclr.errors import ConfigurationError
from synapseclr.models import load_weights

PROJECT = Path(__file__).resolve().parents[2]
TEMPERATURE = "pretraining.objective.temperature"
IMPOSSIBLE = -1


def plan(*grid, **shared) -> Sweep:
    return Sweep.from_arguments("first", "pretraining", "test", grid, shared)


def sweep(runner, demo) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "kedro", "sweep", "--env=test", "--name=first"]
    command += [f"--grid={TEMPERATURE}=0.1,0.5,{IMPOSSIBLE}", f"--params=data_root={demo.root},pretraining.epochs=1"]
    return warm_process.run(command, cwd=PROJECT, env=runner.variables, timeout=600)


@pytest.fixture(scope="module")
def swept(demo, tmp_path_factory):
    """The sweep's process, a client of its MLflow store, and its runs: the sweep's own, and by temperature."""
    runner = type(demo)(tmp_path_factory.mktemp("sweep"))
    before = load_weights(demo.root / "06_models").sha256
    done = sweep(runner, demo)
    assert load_weights(demo.root / "06_models").sha256 == before, "the sweep wrote over other results"
    client = MlflowClient(runner.variables["MLFLOW_TRACKING_URI"])
    return done, client, runs_of(client), runner


def runs_of(client) -> dict:
    experiment = client.get_experiment_by_name("synapseclr").experiment_id
    runs = client.search_runs([experiment])
    return {run.data.tags.get("sweep_combination", "parent").rpartition("=")[2]: run for run in runs}


def test_the_runs_are_nested_in_one(swept):
    _, _, runs, _ = swept
    assert set(runs) == {"parent", "0.1", "0.5", "-1"}
    children = {value: run for value, run in runs.items() if value != "parent"}
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {runs["parent"].info.run_id}
    assert {run.info.run_name for run in children.values()} == {f"temperature={value}" for value in children}


def test_each_run_has_its_parameter_metrics_and_folder(swept, demo):
    _, client, runs, _ = swept
    digests = set()
    for value in ("0.1", "0.5"):
        run = runs[value]
        assert run.info.status == "FINISHED"
        assert run.data.params[TEMPERATURE] == value
        history = client.get_metric_history(run.info.run_id, "pretraining/validation_loss")
        assert [point.step for point in history] == [1]
        place = run.data.tags["results_root"]
        assert str(demo.root) not in place
        folder = demo.root / "sweeps" / "first" / Path(place).name
        assert not (folder / "02_intermediate").exists(), "the chunks are shared"
        digests.add(load_weights(folder / "06_models").sha256)
    assert len(digests) == 2


def test_a_combination_that_fails_is_named_and_the_others_run(swept):
    done, _, runs, _ = swept
    assert done.returncode == 1
    assert f"1 of 3 combinations failed: {TEMPERATURE}=-1" in " ".join(done.stderr.split())
    assert {name: run.info.status for name, run in runs.items() if name in ("parent", "-1")} == {
        "parent": "FAILED",
        "-1": "FAILED",
    }


def test_what_has_finished_is_skipped_and_what_failed_is_tried_again(swept, demo):
    _, client, runs, runner = swept
    again = sweep(runner, demo)
    after = runs_of(client)
    assert after.keys() == runs.keys()
    for name, run in runs.items():
        is_same = after[name].info.end_time == run.info.end_time
        assert is_same == (run.info.status == "FINISHED"), name
        assert after[name].info.run_id == run.info.run_id
    assert " ".join(again.stdout.split()).count("has finished before") == 2


def test_a_name_that_is_taken_by_other_settings_is_refused(swept):
    _, client, runs, _ = swept
    experiment = runs["parent"].info.experiment_id
    with pytest.raises(
        ConfigurationError, match=r"There is a sweep 'first' with .*epochs.* Give this one another --name"
    ):
        _find_or_create(plan("a.b=1", **{"pretraining.epochs": "7"}), client, experiment)


def test_the_combinations_are_all_and_the_command_is_one_of_kedro():
    both = plan("b=1,2", "a.c=x,y,x", shared="0.1")
    assert both.combinations() == [
        {"a.c": "x", "b": "1"},
        {"a.c": "y", "b": "1"},
        {"a.c": "x", "b": "2"},
        {"a.c": "y", "b": "2"},
    ]
    assert both.command({"b": "1"}, "gs://bucket/1")[1:] == [
        *("-m", "kedro", "run", "--pipeline=pretraining", "--env=test"),
        "--params=shared=0.1,b=1,results_root=gs://bucket/1",
    ]


@pytest.mark.parametrize(
    ("grid", "shared", "message"),
    [
        ("pretraining.epochs", "", "--grid pretraining.epochs: expected parameter=value,value"),
        ("pretraining.epochs=,", "", "expected parameter=value,value"),
        ("a=1", "a=2", "a cannot be given here"),
        ("data_root=x,y", "", "data_root cannot be given here"),
        ("a=1", "results_root=x", "results_root cannot be given here"),
        ("a=1", "b", "--params has 'b', expected name=value"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(grid, shared, message):
    with pytest.raises(ConfigurationError, match=message):
        Sweep.from_arguments("s", "pretraining", None, [grid], parse_assignments(shared))


def test_a_name_that_mlflow_could_not_search_is_refused():
    with pytest.raises(ConfigurationError, match=r"The sweep's name is 'it's'\. Use letters"):
        Sweep.from_arguments("it's", "pretraining", None, ["a=1"], {})
