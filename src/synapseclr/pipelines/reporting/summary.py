"""What a reader with half a minute should know of a run, in sentences made from its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synapseclr.analysis.imputation.evaluation_document import strongest_rival
from synapseclr.analysis.layers import BACKBONE
from synapseclr.analysis.traits import TRAITS
from synapseclr.plotting.report import Section, Table
from synapseclr.training import PretrainingConfig

Score = Mapping[str, Any]


def summarise_run(evaluation: Mapping[str, Any], preprocessing_report: Mapping[str, Any]) -> list[str]:
    """Sentences on data, representation, cell types and defects; what a run does not have is left out.

    Args:
        evaluation: The evaluation document.
        preprocessing_report: What preprocessing found.

    Returns:
        One entry per subject.
    """
    sentences = [_data(evaluation, preprocessing_report)]
    sentences += _representation(evaluation.get("representations", {}))
    consensus = evaluation.get("consensus", {}).get("all", {}).get("corrected")
    if consensus:
        sentences.append(
            f"The cell type of a neurite from all of its synapses is right for {_percent(consensus['accuracy'])} of "
            f"{int(consensus['n_neurites'])} held-out neurites (90 % interval {_percent(consensus['lower_90'])} to "
            f"{_percent(consensus['upper_90'])}); single synapses are right for "
            f"{_percent(consensus['synapse_accuracy'])}."
        )
    return sentences + _defects(evaluation.get("outliers", {}))


def _data(evaluation: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    neurites = f" of {report['n_neurites']:,} neurites" if "n_neurites" in report else ""
    rejected = int(report.get("n_rejected", 0))
    left_out = f"; {rejected:,} more could not be cut" if rejected else "; none was rejected"
    epochs = evaluation["epochs"]
    training = f" The encoder was trained on them without labels for {epochs:,} epochs." if epochs else ""
    return f"{evaluation['n_synapses']:,} synapses{neurites} were embedded{left_out}.{training}"


def _representation(representations: Mapping[str, Any]) -> list[str]:
    trained = representations.get("synapseclr", {}).get(BACKBONE, {})
    if not trained:
        return ["No trait was annotated often enough to say how good the representation is."]
    names = [trait.name for trait in TRAITS if trait.name in trained]
    sentences = []
    strongest = {name: strongest_rival(representations, name) for name in names}
    rivals = (
        ("the untrained encoder", representations.get("random", {}).get(BACKBONE, {})),
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
            f"Against {label}, of {len(shared)} traits the trained encoder is better on {_count(better)}, worse on "
            f"{_count(worse)}, and on {level} the difference is within the spread over folds."
        )
    return sentences


def _defects(found: Mapping[str, float]) -> list[str]:
    searched = (
        (f"synapseclr_and_masks/{BACKBONE}", "by learned features joined with statistics of the masks"),
        (f"synapseclr/{BACKBONE}", "by learned features alone"),
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
    """Whether a mean lies above another by more than the root of both squared deviations over folds."""
    return bool(first["mean"] - second["mean"] > (first["std"] ** 2 + second["std"] ** 2) ** 0.5)


def _count(names: Sequence[str]) -> str:
    labels = {trait.name: trait.label for trait in TRAITS}
    return f"{len(names)} ({', '.join(labels[name] for name in names)})" if names else "none"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def describe_setting(preprocessing_report: Mapping[str, Any], config: PretrainingConfig) -> Section:
    """What was run, in the terms of a methods section.

    Args:
        preprocessing_report: What preprocessing found.
        config: The parameters ``pretraining``.
    """
    augmentation, model, objective = config.augmentation, config.model, config.objective
    rows = []
    if "chunk_size_vx" in preprocessing_report and "voxel_size_nm" in preprocessing_report:
        size_vx, voxel_nm = preprocessing_report["chunk_size_vx"], preprocessing_report["voxel_size_nm"]
        extent_um = " x ".join(f"{n * nm / 1000:.2f}" for n, nm in zip(size_vx, voxel_nm, strict=True))
        voxels = " x ".join(str(n) for n in size_vx)
        rows.append(["chunk", f"{voxels} voxels of {' x '.join(f'{nm:g}' for nm in voxel_nm)} nm: {extent_um} um"])
        crop_um = augmentation.final_crop_size * voxel_nm[0] / 1000
        image = augmentation.final_img_size
        rows.append(["what the encoder sees", f"a cube of {crop_um:.2f} um as {image}^3 voxels, {_channels(config)}"])
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
    return Section("What was run", [text], tables=[Table(("part", "setting"), rows)])


def _channels(config: PretrainingConfig) -> str:
    is_separate = config.augmentation.channel_organization == "separate"
    return "presynaptic and postsynaptic side in separate channels" if is_separate else "both sides in one channel"
