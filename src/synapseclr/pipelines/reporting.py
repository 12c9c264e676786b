"""The evaluation of a run, and its report: nodes and pipeline."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from kedro.pipeline import Node, Pipeline

from synapseclr import __version__
from synapseclr.analysis.consensus import consensus_metrics
from synapseclr.analysis.imputation.evaluation_document import evaluation_metrics, strongest_rival
from synapseclr.analysis.representations import BACKBONE, is_simulated
from synapseclr.analysis.traits import TRAITS, Trait, Traits
from synapseclr.errors import SynapseCLRError
from synapseclr.parameters import flatten_names
from synapseclr.plotting.report import Part, ReportingConfig, Section, Table, as_text, render_report, render_section
from synapseclr.plotting.theme import METRIC_LABELS, representation_labels
from synapseclr.storage.foreign_files import parse_json
from synapseclr.tracking import git_state
from synapseclr.training import PretrainingConfig

logger = logging.getLogger(__name__)

PIPELINES = {
    "preprocessing": "Data quality",
    "pretraining": "Training",
    "embedding": "Embedding",
    "imputation": "Representation quality",
    "consensus": "Cell types of neurites",
    "features": "Features",
    "manifold": "Manifold",
    "similarity": "Similar synapses",
    "outliers": "Outliers",
}
"""Pipelines that write a section, with the heading that stands where it is missing."""

_ORDER = (
    *("similarity", "consensus", "imputation", "outliers", "manifold", "features"),
    *("preprocessing", "pretraining", "embedding"),
)
"""Pipelines in the order of their sections inside of a part of the report."""

_MISSING_IN: dict[str, Part] = {
    "preprocessing": "data",
    "pretraining": "appendix",
    "embedding": "appendix",
    "imputation": "comparison",
}
"""Part of the report where a pipeline is told to be missing, if that is not the first one."""

_DECIDES = {"chunks": "preprocessing", "weights": "pretraining", "embeddings": "embedding"}
"""Digests that sections carry, and the pipeline whose section has the present one."""


Score = Mapping[str, Any]
_FIXED = {
    "fidelity",
    "channel_organization",
    "background",
    "norm_scale",
    "intensity_mean",
    "intensity_std",
    "axial_to_sagittal_spacing",
    "final_crop_size",
    "final_img_size",
    "connectivity",
    "active_zone_inflation_radii",
}
"""Fields of the augmentation that count where its random steps are off."""


def evaluate_run(
    pipeline_seconds: dict[str, float], *pipeline_sections: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, float]]:
    """Condense a run.

    Args:
        pipeline_seconds: Wall-clock seconds per pipeline.
        pipeline_sections: What the pipelines contribute, in the order of ``PIPELINES``; empty where one was not run.

    Returns:
        The evaluation, and its scores as flat metrics.

    Raises:
        SynapseCLRError: If no pipeline has contributed anything.
    """
    if not any(pipeline_sections):
        raise SynapseCLRError("There is nothing to report yet: run pipelines first, such as `kedro run` all of them.")
    evaluation: dict[str, Any] = {
        "n_synapses": 0,
        "epochs": 0,
        "seconds": {str(pipeline): float(value) for pipeline, value in pipeline_seconds.items()},
        "representations": {},
        "comparison": {},
    }
    for part in reversed(pipeline_sections):  # what an earlier pipeline says counts: analyses leave defects out
        evaluation |= part.get("evaluation", {})
        for text in part.get("warnings", ()):
            logger.warning(text)
    metrics = evaluation_metrics(evaluation) | consensus_metrics(evaluation.get("consensus", {}))
    for name in ("consensus_with_few_labels", "consensus_of_properties", "learning_curves"):
        metrics |= evaluation.get(name, {})
    return evaluation, metrics


def compose_report(
    evaluation: dict[str, Any],
    parameters: dict[str, Any],
    pretraining: PretrainingConfig,
    config: ReportingConfig,
    traits: Traits,
    *pipeline_sections: dict[str, Any],
) -> str:
    """Join the sections of the pipelines to one self-contained page.

    Args:
        evaluation: The evaluation document.
        parameters: All parameters, for the last section.
        pretraining: The parameters ``pretraining``, for the first section.
        config: The parameters ``reporting``.
        traits: The parameter ``traits``.
        pipeline_sections: As for :func:`evaluate_run`.

    Returns:
        HTML.
    """
    parts = dict(zip(PIPELINES, pipeline_sections, strict=True))
    data = parts["preprocessing"].get("facts", {})
    provenance = parts["embedding"].get("facts", {}).get("provenance", {})
    setting = _describe_simulation(provenance) if is_simulated(provenance) else describe_setting(data, pretraining)
    sections = [render_section(setting, config)]
    warnings = [text for part in parts.values() for text in part.get("warnings", ())]
    for name in _ORDER:
        part = parts[name]
        note = _age(name, parts)
        sections += [section | {"note": note} for section in part.get("sections", ())] or [_missing(name)]
        if note:
            warnings.append(f"{PIPELINES[name]}: {note}")
    sections.append(render_section(describe_run(evaluation["seconds"], provenance, parameters), config))
    counts = {"synapses": evaluation["n_synapses"], "epochs": evaluation["epochs"]}
    facts = {
        **{name: f"{count:,}" for name, count in counts.items() if count},
        "minutes, all pipelines": f"{sum(evaluation['seconds'].values()) / 60:.1f}",
        **headline(evaluation, traits),
    }
    return render_report(
        config.title,
        facts,
        sections,
        footer=f"synapseclr {__version__}",
        summary=summarise_run(
            evaluation, data, is_scored=bool(parts["imputation"]), traits=traits, provenance=provenance
        ),
        warnings=warnings,
        origin=describe_origin(data),
        explorer=config.explorer,
    )


def describe_origin(data: Mapping[str, Any]) -> dict[str, str]:
    """Tell this report from others: when it was made, of which data set, by which commit of the project.

    Args:
        data: Facts that preprocessing contributes.
    """
    origin = {"made": f"{datetime.now(UTC):%d %B %Y, %H:%M} UTC"}
    if "data_set" in data:
        origin["data set"] = data["data_set"]
    git = git_state()
    if git:
        changed = " with changes" if git["git_dirty"] == "true" else ""
        origin["commit"] = git["git_commit"][:10] + changed
    return origin | {"synapseclr": __version__}


def _missing(name: str) -> dict[str, Any]:
    """One line in the place of a pipeline's sections."""
    text = f"Not run (kedro run --pipeline={name})."
    if name == "pretraining":
        text = f"{text} Weights or features that were made elsewhere have no history of a training."
    return render_section(Section(PIPELINES[name], [text], part=_MISSING_IN.get(name, "use")))


def _age(name: str, parts: Mapping[str, Mapping[str, Any]]) -> str:
    """One line above sections that were made from other data than the present ones; empty if they were not."""
    made_from = parts[name].get("made_from", {})
    others = [
        what
        for what, pipeline in _DECIDES.items()
        if what in made_from and made_from[what] != parts[pipeline].get("made_from", {}).get(what, made_from[what])
    ]
    if not others:
        return ""
    return f"Of an earlier run, with other {' and '.join(others)} (kedro run --pipeline={name} renews it)."


def headline(evaluation: Mapping[str, Any], traits: Sequence[Trait] = TRAITS) -> dict[str, str]:
    """Take the scores on top of the report: traits of neurites from the backbone, against the untrained encoder."""
    trained, untrained = (
        evaluation["representations"].get(name, {}).get(BACKBONE, {}) for name in ("synapseclr", "random")
    )
    facts = {}
    for trait in traits:
        if trait.level == "neurite" and trait.name in trained and trait.name in untrained:
            means = [scores[trait.name]["mean"] for scores in (trained, untrained)]
            facts[f"{trait.label}, {METRIC_LABELS[trait.metric]} (untrained)"] = f"{means[0]:.3f} ({means[1]:.3f})"
    return facts


def summarise_run(
    evaluation: Mapping[str, Any],
    data: Mapping[str, Any],
    is_scored: bool = True,
    traits: Sequence[Trait] = TRAITS,
    provenance: Mapping[str, Any] | None = None,
) -> list[str]:
    """Tell of data, cell types, defects and rivals in sentences; what a run does not have is left out.

    Args:
        evaluation: The evaluation document.
        data: Facts that preprocessing contributes.
        is_scored: Whether the representations have been scored at all.
        traits: Traits, in the order in which they are named.
        provenance: Of the embeddings.

    Returns:
        One entry per subject.
    """
    sentences = [_data(evaluation, data)] if evaluation["n_synapses"] else []
    if is_simulated(provenance) and sentences:
        sentences = [f"Features and traits of {evaluation['n_synapses']:,} synapses were simulated, without images."]
    consensus = evaluation.get("consensus", {}).get("all", {}).get("corrected")
    if consensus:
        sentences.append(
            f"The cell type of a neurite from all of its synapses is right for {_percent(consensus['accuracy'])} of "
            f"{int(consensus['n_neurites'])} held-out neurites (90 % interval {_percent(consensus['lower_90'])} to "
            f"{_percent(consensus['upper_90'])}); single synapses are right for "
            f"{_percent(consensus['synapse_accuracy'])}."
        )
    sentences += _defects(evaluation.get("outliers", {}), "simulated" if is_simulated(provenance) else "learned")
    if not is_scored:
        return sentences
    return sentences + _representation(evaluation.get("representations", {}), traits, provenance)


def _data(evaluation: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    neurites = f" of {data['n_neurites']:,} neurites" if "n_neurites" in data else ""
    rejected = data.get("n_rejected")
    left_out = f"; {rejected:,} more could not be cut" if rejected else "; none was rejected" if rejected == 0 else ""
    epochs = evaluation["epochs"]
    training = f" The encoder was trained on them without labels for {epochs:,} epochs." if epochs else ""
    return f"{evaluation['n_synapses']:,} synapses{neurites} were embedded{left_out}.{training}"


def _representation(
    representations: Mapping[str, Any], traits: Sequence[Trait], provenance: Mapping[str, Any] | None
) -> list[str]:
    trained = representations.get("synapseclr", {}).get(BACKBONE, {})
    if not trained:
        return ["No trait was annotated often enough to say how good the representation is."]
    names = [trait.name for trait in traits if trait.name in trained]
    sentences = []
    strongest = {name: strongest_rival(representations, name) for name in names}
    subject = "the simulated features are" if is_simulated(provenance) else "the trained encoder is"
    rivals = (
        (f"the {representation_labels(provenance)['random']}", representations.get("random", {}).get(BACKBONE, {})),
        ("mask statistics", representations.get("mask_statistics", {}).get("statistics", {})),
        ("the best of all that costs no training", {name: found[1] for name, found in strongest.items() if found}),
    )
    for label, rival in rivals:
        shared = [name for name in names if name in rival]
        if not shared:
            continue
        better = [name for name in shared if is_clearly_above(trained[name], rival[name])]
        worse = [name for name in shared if is_clearly_above(rival[name], trained[name])]
        level = len(shared) - len(better) - len(worse)
        sentences.append(
            f"Against {label}, of {len(shared)} traits {subject} better on {_count(better, traits)}, "
            f"worse on {_count(worse, traits)}, and on {level} the difference is within the spread over folds."
        )
    return sentences


def _defects(found: Mapping[str, float], kind: str) -> list[str]:
    searched = (
        (f"synapseclr_and_masks/{BACKBONE}", f"by {kind} features joined with statistics of the masks"),
        (f"synapseclr/{BACKBONE}", f"by {kind} features alone"),
        ("mask_statistics/statistics", "by statistics of the masks alone"),
    )
    scores = {label: found.get(f"outliers/{name}/mahalanobis/roc_auc") for name, label in searched}
    told = [f"{score:.3f} {label}" for label, score in scores.items() if score is not None]
    if not told:
        return []
    listed = f"{', '.join(told[:-1])} and {told[-1]}" if len(told) > 1 else told[0]
    return [
        f"Without any example, defects that the simulation made are found with a ROC AUC of {listed} (0.5 is chance)."
    ]


def is_clearly_above(first: Score, second: Score) -> bool:
    """Tell whether a mean lies above another by more than the root of both squared deviations over folds."""
    return bool(first["mean"] - second["mean"] > (first["std"] ** 2 + second["std"] ** 2) ** 0.5)


def _count(names: Sequence[str], traits: Sequence[Trait]) -> str:
    labels = {trait.name: trait.label for trait in traits}
    return f"{len(names)} ({', '.join(labels[name] for name in names)})" if names else "none"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def describe_setting(data: Mapping[str, Any], config: PretrainingConfig) -> Section:
    """Tabulate what was run, in the terms of a methods section.

    Args:
        data: Facts that preprocessing contributes.
        config: The parameters ``pretraining``.
    """
    augmentation, model, objective = config.augmentation, config.model, config.objective
    rows = []
    if "chunk_size_vx" in data and "voxel_size_nm" in data:
        size_vx, voxel_nm = data["chunk_size_vx"], data["voxel_size_nm"]
        extent_um = " x ".join(f"{n * nm / 1000:.2f}" for n, nm in zip(size_vx, voxel_nm, strict=True))
        voxels = " x ".join(str(n) for n in size_vx)
        rows.append(["chunk", f"{voxels} voxels of {' x '.join(f'{nm:g}' for nm in voxel_nm)} nm: {extent_um} µm"])
        crop_um = augmentation.final_crop_size * voxel_nm[0] / 1000
        image = augmentation.final_img_size
        rows.append(["what the encoder sees", f"a cube of {crop_um:.2f} µm as {image}³ voxels, {_channels(config)}"])
    width = "" if model.width_factor == 1 else f", {model.width_factor:g} times as wide"
    rows.append(["encoder", f"{model.encoder}{width}; projector {' - '.join(map(str, model.projection_dims))}"])
    rows.append(["objective", f"{objective.name}, temperature {objective.temperature:g}"])
    turned = "rotated at random" if augmentation.enable_rotation else "not rotated"
    rows.append(["views", f"{turned}; draws {augmentation.batch_mode}, fidelity {augmentation.fidelity}"])
    optimiser = config.optimiser
    schedule = f"{optimiser.name}, learning rate {optimiser.learning_rate:g} to {optimiser.final_learning_rate:g}"
    rows.append(["training", f"{config.epochs} epochs, batches of {config.batch_size}, {schedule}"])
    kept = "left out of the training" if config.drop_annotated else "trained on as well, without their labels"
    rows.append(["annotated synapses", kept])
    text = (
        "The representation was learned without labels, by SimCLR on chunks around synapses (Wilson & Babadi 2022). "
        "Annotations serve for scores and for imputation only. All parameters are at the end."
    )
    return Section("What was run", [text], tables=[Table(("part", "setting"), rows)], part="data")


def _describe_simulation(provenance: Mapping[str, Any]) -> Section:
    """Tabulate the settings of simulated features, in place of those of a training."""
    rows = [[name, as_text(value)] for name, value in json.loads(provenance["simulation"]).items()]
    text = "No encoder was trained: features, traits and statistics were simulated by `simulated_embeddings`."
    return Section("What was run", [text], tables=[Table(("simulation.embeddings", "setting"), rows)], part="data")


def _channels(config: PretrainingConfig) -> str:
    is_separate = config.augmentation.channel_organization == "separate"
    return "presynaptic and postsynaptic side in separate channels" if is_separate else "both sides in one channel"


def describe_run(seconds: Mapping[str, float], provenance: Mapping[str, Any], parameters: Mapping[str, Any]) -> Section:
    """Tabulate times, provenance and parameters."""
    times = [[name, f"{value:.1f}"] for name, value in seconds.items()]
    images = _json_object(provenance.get("augmentation"))
    told = {
        name: _json_object(value) or value
        for name, value in provenance.items()
        if not (images and name == "augmentation")
    }
    origins = [[str(name), as_text(value)] for name, value in flatten_names(told).items()]
    # The named augmentations are alternatives; the one in use stands under pretraining.augmentation.
    used = {name: value for name, value in parameters.items() if name != "augmentations"}
    settings = [[name, as_text(value)] for name, value in flatten_names(used).items() if value != {}]
    tables = [Table(("pipeline", "seconds"), times)]
    if origins:
        tables.append(Table(("provenance", "value"), origins, "Where weights and chunks came from", is_folded=True))
    if images:
        caption = "How chunks became the images that were embedded: the augmentation without its random steps"
        tables.append(Table(("step", "value"), _image_rows(images), caption, is_folded=True))
    tables.append(Table(("parameter", "value"), settings, f"{len(settings)} parameters", is_folded=True))
    return Section("Provenance", tables=tables, part="appendix")


def _json_object(value: Any) -> dict[str, Any] | None:
    """Parse a text if it is a JSON object, as embeddings keep nested provenance."""
    if not isinstance(value, str) or not value.startswith("{"):
        return None
    try:
        found = parse_json(value)
    except json.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _image_rows(images: Mapping[str, Any]) -> list[list[str]]:
    """Steps that are on and off, each in a row, then the values that count."""
    steps = {name.removeprefix("enable_"): bool(on) for name, on in images.items() if name.startswith("enable_")}
    rows = [
        [label, ", ".join(name.replace("_", " ") for name, on in steps.items() if on is wanted) or "none"]
        for label, wanted in (("steps on", True), ("steps off", False))
    ]
    are_fixed = not any(on for name, on in steps.items() if name != "active_zone")
    counting = [name for name in images if not name.startswith("enable_") and (name in _FIXED or not are_fixed)]
    return rows + [[name.replace("_", " "), as_text(images[name])] for name in counting]


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
