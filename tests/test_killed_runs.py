"""A process that is stopped by a signal must not leave an MLflow run that looks finished."""

import subprocess
import sys

import mlflow

STOPPED = """
import atexit, sys
import mlflow
from synapseclr.errors import TrainingInterrupted
from synapseclr.hooks import end_as_killed
mlflow.set_tracking_uri(sys.argv[1])
run = mlflow.start_run()
atexit.register(end_as_killed, run.info.run_id)
print(run.info.run_id)
raise TrainingInterrupted(15)
"""


def test_a_run_that_a_signal_stopped_is_killed_and_the_status_is_that_of_the_signal(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    done = subprocess.run([sys.executable, "-c", STOPPED, uri], capture_output=True, text=True, timeout=300)
    assert done.returncode == 143
    assert mlflow.MlflowClient(uri).get_run(done.stdout.split()[-1]).info.status == "KILLED"
