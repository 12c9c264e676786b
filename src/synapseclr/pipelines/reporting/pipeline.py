"""The reporting pipeline."""

from kedro.pipeline import Node, Pipeline

from synapseclr.pipelines.reporting.nodes import PIPELINES, compose_report, evaluate_run


def create_pipeline() -> Pipeline:
    """Join the sections of the pipelines that were run into the evaluation and the report."""
    sections = [f"{name}_section" for name in PIPELINES]
    return Pipeline(
        [
            Node(
                evaluate_run,
                ["pipeline_seconds", *sections],
                ["evaluation", "evaluation_metrics"],
                name="evaluate_run",
            ),
            Node(
                compose_report,
                ["evaluation", "parameters", "params:pretraining", "params:reporting", "params:traits", *sections],
                "report",
                name="compose_report",
            ),
        ],
        tags="reporting",
    )
