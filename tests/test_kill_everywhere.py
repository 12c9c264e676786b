"""SIGKILL at random moments of pipelines; the same command gives what an unkilled run gives, and leaves nothing else.

Six moments of the three quickest pipelines, to spare time: `scripts/kill_everywhere.py` kills all of them, 40 times.
"""

import importlib.util
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

PROJECT = Path(__file__).resolve().parents[1]
SCRIPT = PROJECT / "scripts/kill_everywhere.py"


@pytest.fixture(scope="module")
def script():
    specification = importlib.util.spec_from_file_location("kill_everywhere", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    sys.modules["kill_everywhere"] = module  # its dataclasses look for it
    specification.loader.exec_module(module)
    return module


def test_killed_pipelines_give_what_unkilled_ones_give(demo, tmp_path):
    shutil.copytree(demo.root, tmp_path / "whole", ignore=shutil.ignore_patterns("mlartifacts", "checkpoints"))
    command = [sys.executable, SCRIPT, "--moments=6", "--jobs=2", f"--whole={tmp_path}/whole"]
    command.append("--pipelines=similarity,outliers,consensus")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": killed") == 6, done.stdout
    assert "6 of 6 give what an unkilled run gives" in done.stdout


def test_the_moments_are_spread_over_all_pipelines(script):
    unkilled = {name: script.Unkilled(2.0, 100) for name in script.PIPELINES}
    moments = script.draw_moments(40, unkilled, random.Random(0))
    assert {moment.pipeline for moment in moments} == set(script.PIPELINES)
    assert {moment.has_outputs for moment in moments} == {True, False}
    in_writes = [moment for moment in moments if moment.after_s < 0]
    assert 20 <= len(in_writes) < 40
    assert all(1 <= moment.change <= 100 for moment in in_writes)


def test_every_pipeline_of_the_demo_is_killed(script):
    from synapseclr.pipeline_registry import register_pipelines

    pipelines = register_pipelines()
    assert {node for name in script.PIPELINES for node in pipelines[name].nodes} == set(pipelines["demo"].nodes)
    there: set[str] = set()
    for name in script.PIPELINES:  # each finds its inputs
        needed = {entry for entry in pipelines[name].inputs() if entry in pipelines["demo"].all_outputs()}
        assert needed <= there
        there |= pipelines[name].all_outputs()


@pytest.mark.parametrize("damage", ["cut", "lost", "other", "left"])
def test_what_a_kill_would_spoil_is_noticed(script, tmp_path, damage, monkeypatch):
    monkeypatch.setattr(script, "outputs_of", lambda pipeline, root: {"t": root / "t.parquet", "m": root / "m.json"})
    pd.DataFrame({"a": range(9), "seconds": 1.0}).to_parquet(tmp_path / "t.parquet")
    (tmp_path / "m.json").write_text('{"a": 1, "train_seconds": 3}')
    expected = {name: dict(script.contents(path)) for name, path in script.outputs_of("p", tmp_path).items()}
    pd.DataFrame({"a": range(9), "seconds": 2.0}).to_parquet(tmp_path / "t.parquet")  # measured by a clock
    (tmp_path / "m.json").write_text('{"a": 1, "train_seconds": 4}')
    assert not script.differences("p", tmp_path, expected, may_lack=False)
    path = tmp_path / "t.parquet"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "lost":
        path.unlink()
    elif damage == "other":
        (tmp_path / "m.json").write_text('{"a": 2}')
    else:
        (tmp_path / ".t.parquet.machine.1.01234567.partial").write_text("")
    assert bool(script.differences("p", tmp_path, expected, may_lack=False)) == (damage != "left")
    assert bool(script.differences("p", tmp_path, expected, may_lack=True)) == (damage in ("cut", "other"))
    assert bool(script.leftovers(tmp_path)) == (damage == "left")
