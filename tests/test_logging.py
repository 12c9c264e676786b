"""Brackets in paths and values survive in every line that a run prints."""

import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from synapseclr.commands.sweep import Sweep, _print_table

PROJECT = Path(__file__).resolve().parents[1]
AWKWARD = ["/data/[lab]/em", "[/x]", "[80, 80, 32]", "[bold]", "a[link=http://b]c"]
LOG = """
import logging.config, sys, yaml
logging.config.dictConfig(yaml.safe_load(open(sys.argv[1])))
for name in ("synapseclr.volumes", "kedro.runner", "lightning.pytorch", "kedro_mlflow"):
    for value in sys.argv[2:]:
        logging.getLogger(name).warning("%s has %s", name, value)
try:
    raise ValueError(sys.argv[2])
except ValueError:
    logging.getLogger("synapseclr").exception("failed: %s", sys.argv[3])
"""


def test_log_lines_keep_brackets():
    command = [sys.executable, "-c", LOG, str(PROJECT / "conf/logging.yml"), *AWKWARD]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={"COLUMNS": "200"})
    for name in ("synapseclr.volumes", "kedro.runner", "lightning.pytorch", "kedro_mlflow"):
        for value in AWKWARD:
            assert f"{name} has {value}" in done.stdout, done.stderr
    assert "failed: [/x]" in done.stdout
    assert f"ValueError: {AWKWARD[0]}" in done.stdout
    assert "Logging error" not in done.stderr


@pytest.mark.parametrize("value", AWKWARD)
def test_the_table_of_a_sweep_keeps_brackets(capsys, value):
    data = SimpleNamespace(
        tags={"sweep_combination": f"pipeline.name={value}"}, metrics={"pretraining/train_loss": 1.0}
    )
    run = SimpleNamespace(data=data, info=SimpleNamespace(start_time="1", status="FINISHED"))
    _print_table(Sweep("[trial]", "pretraining", None, {}, {}), [run])
    printed = capsys.readouterr().out
    assert f"name={value}" in printed
    assert "Sweep [trial]" in printed


def test_no_handler_of_the_project_reads_markup():
    """Also where a log line is marked up by whoever wrote it: Kedro's own are below the level that is shown."""
    import yaml

    configured = yaml.safe_load((PROJECT / "conf/logging.yml").read_text())
    assert all(handler["markup"] is False for handler in configured["handlers"].values())
    assert getattr(logging, configured["loggers"]["kedro.io.data_catalog"]["level"]) > logging.INFO
