"""Usage reporting of the packages that this one is built on: switched off where the package starts."""

from __future__ import annotations

import os
import sys

SWITCHES = {
    "DO_NOT_TRACK": "1",  # kedro-telemetry, and with it kedro-viz; any text will do
    "MLFLOW_DISABLE_TELEMETRY": "true",  # MLflow, its server and its page: of DO_NOT_TRACK it takes only "true"
}
"""Environment variables, which processes that are started later inherit, and what switches reporting off."""


def switch_off() -> None:
    """Set the variables of :data:`SWITCHES`, but those that the environment has: a choice of one's own counts."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    if "mlflow.telemetry" in sys.modules:  # MLflow was imported before this package, and has begun to report
        from mlflow.telemetry import set_telemetry_client

        set_telemetry_client()
