"""Imputation of every trait at every synapse, with its evaluation on folds by neurite and by synapse."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from synapseclr.analysis.config import ImputationConfig
from synapseclr.analysis.gaussian_processes.kernels import KernelInputMap, kernel_inputs, threads_for
from synapseclr.analysis.imputation.condensed import CONDENSATION_ERRORS, CondensedModels, condense
from synapseclr.analysis.imputation.ensemble import (
    Correction,
    Member,
    MemberModel,
    Prediction,
    fit_correction,
    fit_member,
    mixture,
    recalibrated,
)
from synapseclr.analysis.representations import Features, blocks_of, check_blocks, is_lazy_features
from synapseclr.analysis.row_blocks import HERE, RowBlocks, RowBlocksConfig, sample_rows
from synapseclr.analysis.traits import TRAITS, Trait, class_columns, trait_values
from synapseclr.analysis.traits.calibration import (
    LEVELS,
    calibration_of_classes,
    calibration_of_intervals,
    calibration_of_several,
)
from synapseclr.analysis.traits.folds import (
    UNSCORED_COLUMNS,
    Fold,
    TraitSplit,
    UnscorableTraitError,
    annotated_rows,
    split_trait,
)
from synapseclr.analysis.traits.probes import fold_score
from synapseclr.errors import TableError
from synapseclr.volumes.table_schema import (
    COUNT,
    METRIC,
    NOT_NEGATIVE,
    SCORE,
    SHARE,
    SHARE_RULE,
    TEXT,
    Column,
    TableSchema,
)

_SPLIT = Column("text", rule=("isin", {"allowed_values": ["neurite", "synapse"]}))
_MAYBE_SHARE = Column(nullable=True, optional=True, rule=SHARE_RULE)

IMPUTED_TRAITS = TableSchema(
    "The table of imputed traits", {"synapse_id": Column("id", unique=True)}, key="synapse_id", may_be_empty=False
)

HELD_OUT_PREDICTIONS = TableSchema(
    "The table of held-out predictions",
    {
        "synapse_id": Column("id"),
        "trait": TEXT,
        "split": _SPLIT,
        "fold": COUNT,
        "neurite": Column("root_id"),
        "target": Column(),
        "mean": Column(),
        "sd": NOT_NEGATIVE,
        "stated_mean": Column(),
        "stated_sd": NOT_NEGATIVE,
        "out_of_distribution": SHARE,
        "class_name": Column("text", nullable=True, optional=True),
    },
    key="synapse_id",
)

IMPUTATION_SCORES = TableSchema(
    "The table of imputation scores",
    {
        "trait": TEXT,
        "split": _SPLIT,
        "metric": METRIC,
        "repetition": COUNT,
        "fold": COUNT,
        "score": SCORE,
        "n_train": COUNT,
        "n_test": COUNT,
    },
)

IMPUTATION_CALIBRATION = TableSchema(
    "The table of the imputation's calibration",
    {
        "trait": TEXT,
        "split": _SPLIT,
        "is_corrected": Column("flag"),
        "n": COUNT,
        **dict.fromkeys(
            (
                "expected_calibration_error",
                "debiased_calibration_error",
                "balanced_accuracy",
                "coverage_50",
                "coverage_90",
            ),
            _MAYBE_SHARE,
        ),
    },
)

UNIMPUTED_TRAITS = TableSchema(
    "The table of traits that were not imputed",
    {"trait": Column("text", unique=True), "label": TEXT, "n_annotated": COUNT, "reason": TEXT},
)

Split = Literal["neurite", "synapse"]
SCORE_COLUMNS = ("trait", "split", "metric", "repetition", "fold", "score", "n_train", "n_test")

HELD_OUT_COLUMNS = (
    "synapse_id",
    "trait",
    "split",
    "fold",
    "neurite",
    "target",
    "mean",
    "sd",
    "stated_mean",
    "stated_sd",
    "out_of_distribution",
    "class_name",
)


@dataclass(frozen=True)
class Imputation:
    """Result of the imputation by Gaussian processes.

    Attributes:
        traits: One row per synapse: ``synapse_id`` and the columns of :func:`impute_traits`.
        held_out: One row per annotated synapse, trait and split, predicted by models that did not see it: ``mean`` and
            ``sd`` as they are given out, ``stated_mean`` and ``stated_sd`` before the correction. For classes ``mean``
            is the probability of class 1; several classes have a row each, ``class_name``, with its probability and the
            target 0 or 1.
        scores: Score of every model on its test fold.
        calibration: One row per trait and split, with and without the correction.
        unimputed: Traits that could not be imputed, with the reason.
        condensation: What condensing the models changes, one row per trait whose models were:
            :data:`~synapseclr.analysis.imputation.condensed.CONDENSATION_ERRORS`.
    """

    traits: pd.DataFrame
    held_out: pd.DataFrame
    scores: pd.DataFrame
    calibration: pd.DataFrame
    unimputed: pd.DataFrame
    condensation: pd.DataFrame


def impute_traits(
    features_nf: Features,
    annotations: pd.DataFrame,
    scales: pd.DataFrame,
    config: ImputationConfig | None = None,
    traits: Sequence[Trait] = TRAITS,
    row_blocks: RowBlocksConfig = HERE,
) -> Imputation:
    """Impute traits at every synapse.

    Args:
        features_nf: Shape (n, f), finite; or blocks. Lazy ones, and those of ``condense_from`` synapses, are predicted
            block by block.
        annotations: One row per synapse: ``synapse_id``, traits (NaN where not annotated), root ids.
        scales: ``annotation_scales``, to return to the measured units.
        config: Folds, and the Gaussian processes.
        traits: Traits to impute. One that is conditioned on another is the value that it has given the other, such as
            the size of mitochondria where there are any.
        row_blocks: Blocks of lazy features.

    Returns:
        The imputation. Its ``traits`` hold, per trait, ``<trait>_is_annotated`` and ``<trait>_out_of_distribution``
        (posterior over prior variance: near 1, the annotated synapses say nothing here); for classes
        ``<trait>_probability`` of class 1 with ``<trait>_probability_sd``; for several
        ``<trait>_<class>_probability`` of each with its ``_probability_sd``, and ``<trait>_class``, the name of the
        most probable; for continuous traits ``<trait>_mean`` and ``<trait>_sd`` as annotated and
        ``<raw column>_{mean,sd,lower_90,upper_90}`` as measured. An annotated
        synapse is predicted from other neurites alone, so that its row says what a missing annotation would get.

    Raises:
        TableError: If features and annotations do not have the same number of rows.
        SynapseCLRError: If features are not finite.
    """
    config = config or ImputationConfig()
    if len(features_nf) != len(annotations):
        raise TableError(
            f"There are {len(features_nf)} rows of features and {len(annotations)} of annotations: run the embedding "
            "again on these synapses."
        )
    if is_lazy_features(features_nf) or len(features_nf) >= config.gaussian_processes.condense_from:
        return _impute_in_blocks(features_nf, annotations, scales, config, traits, row_blocks)
    check_blocks(features_nf, config.gaussian_processes.layer)
    from rich.progress import track
    from threadpoolctl import threadpool_limits

    with threadpool_limits(threads_for(len(annotations), config.gaussian_processes)):
        inputs_nr = kernel_inputs(features_nf, config.gaussian_processes.n_inputs, config.seed)
        return _impute_all(inputs_nr, annotations, scales, config, track(traits, description="Imputing traits"))


def _impute_all(
    inputs_nr: np.ndarray,
    annotations: pd.DataFrame,
    scales: pd.DataFrame,
    config: ImputationConfig,
    traits: Iterable[Trait],
    others: Callable[[_Imputed], None] = lambda found: None,
) -> Imputation:
    """Impute trait by trait; ``others`` is called with the models of each one."""
    table = {"synapse_id": annotations["synapse_id"].to_numpy()}
    held_out, scores, calibration, unimputed = [], [], [], []
    for trait in traits:
        try:
            found = _impute(inputs_nr, annotations, trait, config)
        except UnscorableTraitError as reason:
            n_annotated = int(np.isfinite(trait_values(annotations, trait)).sum())
            unimputed.append((trait.name, trait.label, n_annotated, str(reason)))
            continue
        table |= _columns(found.prediction, found.split, scales)
        unimputed += found.split.unscored_rows()
        held_out += found.held_out
        scores += found.scores
        calibration += found.calibration
        others(found)
    return Imputation(
        pd.DataFrame(table),
        pd.concat(held_out, ignore_index=True) if held_out else pd.DataFrame(columns=list(HELD_OUT_COLUMNS)),
        pd.DataFrame(scores, columns=list(SCORE_COLUMNS)),
        pd.DataFrame(calibration) if calibration else pd.DataFrame(columns=["trait", "split", "is_corrected", "n"]),
        pd.DataFrame(unimputed, columns=list(UNSCORED_COLUMNS)),
        pd.DataFrame(columns=list(CONDENSATION_ERRORS.columns)),
    )


def _impute_in_blocks(
    features: Features,
    annotations: pd.DataFrame,
    scales: pd.DataFrame,
    config: ImputationConfig,
    traits: Sequence[Trait],
    row_blocks: RowBlocksConfig,
) -> Imputation:
    """Impute many synapses: models are fitted and tested on the annotated ones, and predict blocks of all.

    Everything but the columns of the table is what the whole matrix at once gives; these are float32 here. From
    ``condense_from`` synapses on models are condensed, and predict all traits in one pass over the features.
    """
    from dask.tokenize import tokenize
    from rich.progress import track

    process = config.gaussian_processes
    rows_s = annotated_rows(annotations, traits)
    of_annotated = annotations.iloc[rows_s]
    with RowBlocks("imputation", blocks_of(features), row_blocks) as blocks:
        inputs = KernelInputMap.fit(blocks, process.n_inputs, config.seed)
        inputs_sr = inputs.apply(*blocks.rows(rows_s)) if len(rows_s) else np.zeros((0, 1))
        inputs_dr = None
        if blocks.n_rows >= process.condense_from and len(rows_s):
            drawn_d = sample_rows(blocks.n_rows, process.n_condensed, config.seed)
            order_d = np.random.default_rng(config.seed).permutation(len(drawn_d))
            inputs_dr = inputs.apply(*blocks.rows(drawn_d))[order_d]
        table: dict[str, np.ndarray] = {"synapse_id": annotations["synapse_id"].to_numpy()}
        condensed: list[tuple[CondensedModels, Correction, TraitSplit]] = []
        errors: list[dict[str, object]] = []

        def key(*more: str) -> str:
            # Models cannot be told by their contents; what they were fitted on determines them.
            return str(
                tokenize(inputs.mean_f, inputs.axes_fr, inputs_sr, of_annotated, scales, config.model_dump_json(), more)
            )

        def predict(found: _Imputed) -> None:
            split = replace(found.split, rows_a=rows_s[:0])
            if inputs_dr is not None and (condensation := condense(found.models, inputs_dr)) is not None:
                condensed.append((condensation.models, found.correction, split))
                errors.append({"trait": split.trait.name, **condensation.errors})
                return
            given = (inputs, found.models, found.correction, split, scales)
            label, name = f"Imputing {split.trait.label}", f"{split.trait.name}_class"
            table.update(blocks.map(_predict_block, given, description=label, key=key(repr(split.trait))).columns())
            if split.is_multiclass:
                table[name] = np.array(split.class_names, dtype=object)[table[name]]

        fitted = track(traits, description="Imputing annotated synapses")
        sampled = _impute_all(inputs_sr, of_annotated, scales, config, fitted, predict)
        if condensed:
            together = (inputs, condensed, scales)
            names = [split.trait.name for *_, split in condensed]
            all_found = blocks.map(
                _predict_condensed, together, description="Imputing traits", key=key("condensed", *names)
            )
            table.update(all_found.columns())
            for *_, split in condensed:
                if split.is_multiclass:
                    name = f"{split.trait.name}_class"
                    table[name] = np.array(split.class_names, dtype=object)[table[name]]
    for name in sampled.traits.columns[1:]:
        table[name][rows_s] = sampled.traits[name].to_numpy()
    ordered = pd.DataFrame({name: table[name] for name in sampled.traits.columns}, copy=False)
    columns = list(CONDENSATION_ERRORS.columns)
    return replace(sampled, traits=ordered, condensation=pd.DataFrame(errors, columns=columns))


def _predict_condensed(*given: Any) -> dict[str, np.ndarray]:
    """Result of :func:`_predict_block`, of all traits whose models are condensed."""
    *parts, (inputs, condensed, scales) = given
    inputs_br = inputs.apply(*parts)
    columns: dict[str, np.ndarray] = {}
    for models, correction, split in condensed:
        stated = models.predict(inputs_br)
        columns |= _block_columns(stated, correction, split, scales)
    return columns


_one_at_a_time = threading.Lock()  # settings of gpytorch belong to the process; torch has threads of its own


def _predict_block(*given: Any) -> dict[str, np.ndarray]:
    """Columns of the table at the rows of a block, none of them taken to be annotated; names of classes as codes."""
    *parts, (inputs, models, correction, split, scales) = given
    with _one_at_a_time:
        inputs_br = inputs.apply(*parts)
        stated = mixture([model.predict(inputs_br) for model in models], split.rows_a)
    return _block_columns(stated, correction, split, scales)


def _block_columns(
    stated: Prediction, correction: Correction, split: TraitSplit, scales: pd.DataFrame
) -> dict[str, np.ndarray]:
    """Corrected columns of a block in float32; names of classes as codes, since objects cannot be stored."""
    mean_ob, sd_ob = correction.apply(stated.mean_on, stated.sd_on)
    columns = _columns(replace(stated, mean_on=mean_ob, sd_on=sd_ob), split, scales)
    if split.is_multiclass:
        columns[f"{split.trait.name}_class"] = mean_ob.argmax(axis=0).astype(np.int16)
    return {
        name: values_b.astype(np.float32) if values_b.dtype == np.float64 else values_b
        for name, values_b in columns.items()
    }


@dataclass
class _Imputed:
    split: TraitSplit
    prediction: Prediction
    models: list[MemberModel]
    correction: Correction
    held_out: list[pd.DataFrame]
    scores: list[dict[str, object]]
    calibration: list[dict[str, object]]


def _impute(inputs_nr: np.ndarray, annotations: pd.DataFrame, trait: Trait, config: ImputationConfig) -> _Imputed:
    """Impute one trait; the first repetition has the folds of the probes."""
    process = config.gaussian_processes
    splits = [
        split_trait(annotations, trait, config.n_folds, config.min_annotated, config.seed + 1000 * repetition)
        for repetition in range(process.n_seeds)
    ]
    split = splits[0]
    plans: dict[Split, list[list[Fold]]] = {"neurite": [one.folds for one in splits]}
    if process.compare_synapse_folds:
        plans["synapse"] = [_synapse_folds(split, config.n_folds, config.seed)]
    predictions: dict[Split, Prediction] = {}
    found = _Imputed(split, None, [], Correction(), [], [], [])  # type: ignore[arg-type]
    for name, repetitions in plans.items():
        members = []
        for repetition, folds in enumerate(repetitions):
            for number, fold in enumerate(folds):
                model, member = _fit(inputs_nr, split, fold, config, config.seed + repetition)
                members.append(member)
                if name == "neurite":
                    found.models.append(model)
                found.scores.append(_score(member, split, fold, name, repetition, number))
        prediction = mixture(members, split.rows_a)
        if process.recalibrate:
            if name == "neurite":
                found.correction = fit_correction(prediction, split, np.arange(len(split.rows_a)))
            prediction = recalibrated(prediction, split, repetitions[0])
        predictions[name] = prediction
        found.held_out.append(_held_out(prediction, split, repetitions[0], annotations, name))
        found.calibration += _calibration(prediction, split, name, process.n_bins)
    found.prediction = predictions["neurite"]
    return found


def _fit(
    inputs_nr: np.ndarray, split: TraitSplit, fold: Fold, config: ImputationConfig, seed: int
) -> tuple[MemberModel, Member]:
    """Fit and predict all rows; a matrix that cannot be factorised makes the trait one that cannot be imputed."""
    from linear_operator.utils.errors import NanError, NotPSDError
    from torch.linalg import LinAlgError

    try:
        model = fit_member(inputs_nr, split, fold, config.gaussian_processes, seed)
        return model, model.predict(inputs_nr)
    except (NanError, NotPSDError, LinAlgError) as error:
        raise UnscorableTraitError(f"the Gaussian process could not be fitted: {error}") from error


def _synapse_folds(split: TraitSplit, n_folds: int, seed: int) -> list[Fold]:
    """Folds by synapse, as published: synapses of a neurite lie on both sides."""
    from sklearn.model_selection import KFold, StratifiedKFold

    kind = StratifiedKFold if split.trait.is_class else KFold
    splitter = kind(n_splits=n_folds, shuffle=True, random_state=seed)
    return [(train, test) for train, test in splitter.split(split.target_a, split.target_a)]


def _score(
    member: Member, split: TraitSplit, fold: Fold, name: Split, repetition: int, number: int
) -> dict[str, object]:
    train, test = fold
    predicted_ob = member.mean_on[:, member.test_rows_b]
    score = fold_score(
        split.trait.metric, split.target_a[test], predicted_ob if split.is_multiclass else predicted_ob[0]
    )
    values = (split.trait.name, name, split.trait.metric, repetition, number, score, len(train), len(test))
    return dict(zip(SCORE_COLUMNS, values, strict=True))


def _held_out(
    prediction: Prediction, split: TraitSplit, folds: list[Fold], annotations: pd.DataFrame, name: Split
) -> pd.DataFrame:
    rows_a = split.rows_a
    fold_a = np.zeros(len(rows_a), dtype=np.int64)
    for number, (_, test) in enumerate(folds):
        fold_a[test] = number
    tables = []
    for output, class_name in enumerate(split.class_names if split.is_multiclass else (None,)):
        columns = (
            annotations["synapse_id"].to_numpy()[rows_a],
            split.trait.name,
            name,
            fold_a,
            annotations[split.trait.group].to_numpy()[rows_a],
            split.target_a if class_name is None else (split.target_a == output).astype(float),
            prediction.mean_on[output, rows_a],
            prediction.sd_on[output, rows_a],
            prediction.stated_mean_on[output, rows_a],
            prediction.stated_sd_on[output, rows_a],
            prediction.out_of_distribution_n[rows_a],
            class_name,
        )
        tables.append(pd.DataFrame(dict(zip(HELD_OUT_COLUMNS, columns, strict=True))))
    return pd.concat(tables, ignore_index=True).astype({"class_name": object})


def _calibration(prediction: Prediction, split: TraitSplit, name: Split, n_bins: int) -> list[dict[str, object]]:
    rows_a, target_a = split.rows_a, split.target_a
    rows: list[dict[str, object]] = []
    for is_corrected, mean_on, sd_on in (
        (True, prediction.mean_on, prediction.sd_on),
        (False, prediction.stated_mean_on, prediction.stated_sd_on),
    ):
        mean_oa, sd_oa = mean_on[:, rows_a], sd_on[:, rows_a]
        if split.is_multiclass:
            measures = calibration_of_several(mean_oa, target_a, split.groups_a, n_bins)
        elif split.trait.is_class:
            measures = calibration_of_classes(mean_oa[0], target_a, split.groups_a, n_bins)
        else:
            measures = calibration_of_intervals(target_a - mean_oa[0], sd_oa[0], split.groups_a)
        keys = {"trait": split.trait.name, "split": name, "is_corrected": is_corrected, "n": len(rows_a)}
        rows.append(keys | measures)
    return rows


def _columns(prediction: Prediction, split: TraitSplit, scales: pd.DataFrame) -> dict[str, np.ndarray]:
    name = split.trait.name
    is_annotated_n = np.zeros(prediction.mean_on.shape[-1], dtype=bool)
    is_annotated_n[split.rows_a] = True
    columns = {f"{name}_is_annotated": is_annotated_n}
    mean_n, sd_n = prediction.mean_on[0], prediction.sd_on[0]
    if split.is_multiclass:
        columns[f"{name}_class"] = np.array(split.class_names, dtype=object)[prediction.mean_on.argmax(axis=0)]
        starts = dict(zip(split.trait.class_names, class_columns(split.trait), strict=True))
        for output, class_name in enumerate(split.class_names):
            columns[f"{starts[class_name]}_probability"] = prediction.mean_on[output]
            columns[f"{starts[class_name]}_probability_sd"] = prediction.sd_on[output]
    elif split.trait.is_class:
        columns |= {f"{name}_probability": mean_n, f"{name}_probability_sd": sd_n}
    else:
        columns |= {f"{name}_mean": mean_n, f"{name}_sd": sd_n}
        columns |= original_units(mean_n, sd_n, name, scales)
    return columns | {f"{name}_out_of_distribution": prediction.out_of_distribution_n}


_ENDS = (("lower", -1.0), ("upper", 1.0))
_COLUMNS = ("trait", "raw_column", "transform", "location", "scale")
_KNOWN = ("log1p_zscore", "log1p_zscore_zi", "zscore")


def original_units(mean_n: np.ndarray, sd_n: np.ndarray, trait: str, scales: pd.DataFrame) -> dict[str, np.ndarray]:
    """Undo ``(value - location) / scale``, or the same of ``log(1 + value)``.

    In the latter case a normal z-score is a log-normal value: its mean and standard deviation are those of that
    distribution, and the interval holds the same 90 % as that of the z-score.

    Args:
        mean_n: Predicted z-scores.
        sd_n: Their standard deviations.
        trait: Name of the trait.
        scales: ``annotation_scales``: ``trait, raw_column, transform, location, scale``.

    Returns:
        ``<raw column>_{mean,sd,lower_90,upper_90}`` to float64 (n,). Nothing if the table does not know how the trait
        was scaled, as for annotations that came already transformed, or if it has no columns, as of a file that is
        not there.

    Raises:
        TableError: If a column of ``scales`` is missing.
    """
    missing = [name for name in _COLUMNS if name not in scales]
    if not len(scales.columns):
        return {}
    if missing:
        raise TableError(
            f"'annotation_scales' lacks the columns {missing}: run `kedro run --pipeline=preprocessing` again."
        )
    rows = scales[scales["trait"] == trait].to_dict("records")
    if not rows or rows[0]["transform"] not in _KNOWN or not np.isfinite([rows[0]["location"], rows[0]["scale"]]).all():
        return {}
    name, location, scale = str(rows[0]["raw_column"]), float(rows[0]["location"]), float(rows[0]["scale"])
    # A trait that goes by the name of its column keeps that for its scores.
    name = f"{name}_measured" if name == trait else name
    if rows[0]["transform"] == "zscore":
        value_n, spread_n = location + scale * mean_n, scale * sd_n
        ends = {f"{name}_{end}_90": value_n + sign * LEVELS[90] * spread_n for end, sign in _ENDS}
        return {f"{name}_mean": value_n, f"{name}_sd": spread_n, **ends}
    log_mean_n, log_variance_n = location + scale * mean_n, np.square(scale * sd_n)
    value_n = np.exp(log_mean_n + 0.5 * log_variance_n)
    half_n = LEVELS[90] * np.sqrt(log_variance_n)
    return {
        f"{name}_mean": value_n - 1.0,
        f"{name}_sd": value_n * np.sqrt(np.expm1(log_variance_n)),
        # A measured size or distance is not negative.
        f"{name}_lower_90": np.maximum(np.expm1(log_mean_n - half_n), 0.0),
        f"{name}_upper_90": np.expm1(log_mean_n + half_n),
    }


_CALIBRATION = (
    "expected_calibration_error",
    "debiased_calibration_error",
    "calibration_error_by_chance",
    "log_loss",
    "brier_score",
    "accuracy",
    "balanced_accuracy",
    "coverage_50",
    "coverage_90",
    "z_score_rms",
)


def imputation_document(scores: pd.DataFrame, calibration: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Condense scores and calibration.

    Args:
        scores: As in :class:`~synapseclr.analysis.imputation.imputing.Imputation`.
        calibration: Likewise; the rows of what is given out (``is_corrected``) count.

    Returns:
        ``{trait: {"metric": str, "by_neurite": {"mean", "std", "folds", <calibration>}, "by_synapse": {...}}}`` with
        nothing but JSON's own types. Measures that do not apply to the trait are left out.
    """
    document: dict[str, dict[str, Any]] = {}
    for (trait, split, metric), of_one in scores.groupby(["trait", "split", "metric"], sort=False):
        score = of_one["score"].to_numpy(dtype=float)
        entry: dict[str, Any] = {
            "mean": float(score.mean()),
            "std": float(score.std(ddof=1)) if len(score) > 1 else 0.0,
            "folds": len(score),
        }
        chosen = calibration[
            (calibration["trait"] == trait) & (calibration["split"] == split) & calibration["is_corrected"].astype(bool)
        ]
        for row in chosen.to_dict("records"):
            entry |= {name: float(row[name]) for name in _CALIBRATION if name in row and np.isfinite(row[name])}
        document.setdefault(str(trait), {"metric": str(metric)})[f"by_{split}"] = entry
    return document


def imputation_metrics(document: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Flatten to ``gaussian_processes/<trait>/by_<split>/<measure>``; the mean score goes by the name of its metric."""
    metrics: dict[str, float] = {}
    for trait, splits in document.items():
        for split in ("by_neurite", "by_synapse"):
            for name, value in splits.get(split, {}).items():
                if name != "folds":
                    measure = {"mean": splits["metric"], "std": f"{splits['metric']}_std"}.get(name, name)
                    metrics[f"gaussian_processes/{trait}/{split}/{measure}"] = float(value)
    return metrics
