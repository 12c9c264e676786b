from pathlib import Path

import pytest
from published_release import published_bucket, small_configuration  # noqa: F401

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run_here(monkeypatch):
    """Runs pipelines in this process, without MLflow; the error of one that fails is raised as it is."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    monkeypatch.chdir(PROJECT)
    monkeypatch.setenv("SYNAPSECLR_TRACKING", "off")
    bootstrap_project(PROJECT)

    def run(env, pipelines, configuration=None, **parameters):
        conf_source = None if configuration is None else str(configuration)
        with KedroSession.create(PROJECT, env=env, conf_source=conf_source, runtime_params=parameters) as session:
            session.run(pipeline_names=pipelines)

    return run
