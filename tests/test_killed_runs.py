"""A process that is stopped by a signal must not leave an MLflow run that looks finished."""

import subprocess
import sys

import mlflow

STOPPED = """
import atexit, sys
from pathlib import Path
import mlflow
from synapseclr.errors import TrainingInterrupted
from synapseclr.hooks import RunTracking
from synapseclr.tracking import Outbox, set_current_outbox
mlflow.set_tracking_uri(sys.argv[1])
run = mlflow.start_run()
outbox = Outbox(sys.argv[1], run.info.run_id, Path())
set_current_outbox(outbox)
outbox.metrics({"loss": 0.5}, 3)
tracking = RunTracking()
tracking._already_active_mlflow = False
atexit.register(tracking.close, "KILLED")
print(run.info.run_id)
raise TrainingInterrupted(15)
"""


def test_a_run_that_a_signal_stopped_is_killed_and_the_status_is_that_of_the_signal(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    done = subprocess.run([sys.executable, "-c", STOPPED, uri], capture_output=True, text=True, timeout=300)
    assert done.returncode == 143, done.stderr
    run = mlflow.MlflowClient(uri).get_run(done.stdout.split()[-1])
    assert run.info.status == "KILLED"
    assert run.data.metrics == {"loss": 0.5}
