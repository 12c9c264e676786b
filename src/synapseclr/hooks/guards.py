"""Guards: hooks that stop a run before any of its nodes, and keep secrets out of logs."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path, PurePosixPath
from typing import Any, get_type_hints

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from pydantic import BaseModel, ValidationError

from synapseclr.errors import ConfigurationError
from synapseclr.hooks.error_sentences import did_you_mean, parameter_sentences
from synapseclr.privacy import SecretsFilter, mask_exception

SIMULATED = "simulated"


class EnvironmentGuard:
    """Stops a session whose configuration environment does not exist: Kedro would take that of ``base`` instead."""

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Look for the environment's folder."""
        folder = Path(context.config_loader.conf_source)
        if context.env in (None, "base", "local") or not folder.is_dir() or (folder / context.env).is_dir():
            return
        known = [path.name for path in folder.iterdir() if path.is_dir() and path.name != "base"]
        raise ConfigurationError(
            f"There is no configuration environment '{context.env}': the folder {folder.name}/{context.env} is missing."
            f"{did_you_mean(context.env, known)} docs/own_data.md says how to make one."
        )


class LogGuard:
    """Keeps passwords out of log and errors, whichever package writes them."""

    @hook_impl(tryfirst=True)
    def after_context_created(self) -> None:
        """Have the root logger's handlers mask secrets; Kedro's own file of settings cannot name a filter of ours."""
        for handler in logging.getLogger().handlers:
            if not any(isinstance(found, SecretsFilter) for found in handler.filters):
                handler.addFilter(SecretsFilter())

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self, error: Exception) -> None:
        """Mask what the error that ends the run will show."""
        mask_exception(error)


class ParameterGuard:
    """Stops a run whose parameters name something that no pipeline takes, before any node runs."""

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Check the values of every parameter that has a model; errors name the parameter as the user writes it.

        Kedro checks the same a little later, but names the models.
        """
        parameters = context.config_loader["parameters"]
        for name, model in parameter_models().items():
            value: Any = parameters
            for part in name.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            if value is None:
                continue
            try:
                model.model_validate(value)
            except ValidationError as error:
                raise ConfigurationError(parameter_sentences(name, model, error)) from error

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], catalog: DataCatalog) -> None:
        """Compare the top-level names; what is below them, the parameters' own models check."""
        from kedro.framework.project import pipelines

        given = run_params.get("runtime_params") or run_params.get("extra_params") or {}
        known = {
            name.removeprefix("params:").split(".")[0]
            for p in pipelines.values()
            for name in p.inputs()
            if name.startswith("params:")
        }
        # These are resolved in the configuration, not read by nodes.
        known |= {"data_root", "results_root", "published_root", "query", "sources", "in_memory"}
        known |= {name for name in ("augmentation", "configuration") if f"params:{name}s" in catalog}
        unknown = sorted(set(given) - known)
        if unknown:
            raise ConfigurationError(f"Unknown parameter {', '.join(unknown)}.{did_you_mean(unknown[0], known)}")


def parameter_models() -> dict[str, type[BaseModel]]:
    """Models of the parameters, by name, as the nodes' hints have them."""
    from kedro.framework.project import pipelines

    models = {}
    for node in {node for pipeline in pipelines.values() for node in pipeline.nodes}:
        hints = get_type_hints(node.func)
        for argument, name in zip(inspect.signature(node.func).parameters, node.inputs, strict=False):
            hint = hints.get(argument)
            if name.startswith("params:") and isinstance(hint, type) and issubclass(hint, BaseModel):
                models[name.removeprefix("params:")] = hint
    return dict(sorted(models.items()))


class SimulationGuard:
    """Keeps the simulation from overwriting a user's own raw data."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Every output of the simulation must lie below a folder named ``simulated``."""
        for name in pipeline.only_nodes_with_tags("simulation").all_outputs():
            path = getattr(catalog.get(name), "_filepath", None)
            if path is not None and SIMULATED not in PurePosixPath(str(path)).parts:
                raise ConfigurationError(
                    f"The simulation would overwrite {name} at {path}. It only writes below a folder named "
                    f"'{SIMULATED}'. Run the pipelines on your own data without it: `kedro run`."
                )


class ReadOnlyGuard:
    """Stops a run that would write to a dataset which is only read, before hours are spent on what it would write."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Such datasets have an attribute ``read_only`` that says why."""
        for name in sorted(pipeline.all_outputs()):
            reason = getattr(catalog.get(name), "read_only", None)
            if reason is not None:
                raise ConfigurationError(
                    f"This run would write {name}, which is only read in this environment. {reason} Leave out the "
                    "pipeline that makes it, or use another environment (--env)."
                )
