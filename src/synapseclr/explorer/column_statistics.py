"""Sets and pairs of synapses against all others, column by column, from counts that are made once a column."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from synapseclr.analysis.column_labels import number_text
from synapseclr.analysis.feature_rows import FeatureRows
from synapseclr.explorer.run_outputs import STANDARDISED, Column, RunOutputs

N_BARS = 24
"""Bars of a histogram; numbers beyond the percentiles 1 and 99 are in the outermost ones."""

_N_QUANTILES = 512
_POPULATION = 500_000  # synapses that stand for all, of more
_MIN_COMPARED = 3
_APART = (STANDARDISED, "Uncertainty", "Out of distribution")  # tell of the imputation, not of synapses
_SHARED = 10
_N_SAMPLED = 1_000  # synapses whose distances a neighbour's is compared with


class ColumnStatistics:
    """Distribution of one column over all synapses.

    Args:
        column: The column.
        population_m: Rows that stand for all.
    """

    def __init__(self, column: Column, population_m: np.ndarray) -> None:
        self.column = column
        values_m = column.values_n[population_m]
        known_m = values_m[np.isfinite(values_m)]
        self.n_known = len(known_m)
        if column.class_names:
            self._cuts = self._ends = np.arange(0.5, len(column.class_names) - 1)
        else:
            shares = np.linspace(0, 1, _N_QUANTILES)
            # Cuts are values that occur, so that medians are, too.
            self._cuts = np.unique(np.quantile(known_m, shares, method="nearest")) if len(known_m) else np.zeros(1)
            low, high = np.quantile(known_m, [0.01, 0.99]) if len(known_m) else (0.0, 1.0)
            self._ends = np.linspace(low, high if high > low else low + 1, N_BARS + 1)
        self.counts = self._fine(known_m)
        self.bars = self._coarse(known_m)

    def _fine(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(np.searchsorted(self._cuts, values), minlength=len(self._cuts) + 1)

    def _coarse(self, values: np.ndarray) -> np.ndarray:
        if self.column.class_names:
            return self._fine(values)
        return np.bincount(np.searchsorted(self._ends[1:-1], values), minlength=N_BARS)

    def compared(self, inside: np.ndarray, inside_population: np.ndarray) -> dict[str, Any] | None:
        """Compare a set with the rest.

        Args:
            inside: The set's values, without missing ones.
            inside_population: Those of them that are in the population.

        Returns:
            ``effect``: of numbers, the rank-biserial correlation, the probability that a synapse of the set has the
            larger value less that it has the smaller one; of classes, the total variation distance, the share that
            would have to change its class. ``set``, ``rest``: medians, or the shares of the class that differs most.
            ``bars_set``, ``bars_rest``: shares by bar, which begin at ``low`` and end at ``high``, or by class. None
            if the set has no value.
        """
        if not len(inside):
            return None
        of_set, rest = self._fine(inside), self.counts - self._fine(inside_population)
        n_set, n_rest = int(of_set.sum()), int(rest.sum())
        share_set, share_rest = of_set / n_set, rest / max(n_rest, 1)
        bars_rest = self.bars - self._coarse(inside_population)
        compared: dict[str, Any] = {
            "bars_set": np.round(self._coarse(inside) / n_set, 4).tolist(),
            "bars_rest": np.round(bars_rest / max(n_rest, 1), 4).tolist(),
            "n": n_set,
        }
        is_compared = n_set >= _MIN_COMPARED and n_rest >= _MIN_COMPARED
        if self.column.class_names:
            differs = share_set - share_rest if n_rest else share_set
            code = int(np.argmax(differs))
            name = self.column.class_names[code]
            texts = f"{share_set[code]:.0%} {name}", f"{share_rest[code]:.0%} {name}" if n_rest else ""
            effect = float(np.abs(share_set - share_rest).sum() / 2)
        else:
            below_rest = np.cumsum(share_rest) - share_rest
            effect = float(2 * (share_set * (below_rest + share_rest / 2)).sum() - 1)
            middle = self._cuts[min(int(np.searchsorted(np.cumsum(share_rest), 0.5)), len(self._cuts) - 1)]
            unit = self.column.unit
            texts = number_text(float(np.median(inside)), unit), number_text(float(middle), unit) if n_rest else ""
            compared |= {"low": float(self._ends[0]), "high": float(self._ends[-1])}
        return compared | {"effect": round(effect, 3) if is_compared else 0.0, "set": texts[0], "rest": texts[1]}

    def share_between(self, one: float, other: float) -> float:
        """Share of the synapses whose value lies between two values, or which are of the class of both."""
        low, high = np.searchsorted(self._cuts, [min(one, other), max(one, other)])
        return float(self.counts[low : high + 1].sum() / max(self.n_known, 1))


class RunStatistics:
    """Statistics of a run's columns, each made when it is first asked for.

    Args:
        outputs: The run.
    """

    def __init__(self, outputs: RunOutputs) -> None:
        self._outputs = outputs
        self._of_column: dict[str, ColumnStatistics] = {}
        self._lock = threading.Lock()

    @cached_property
    def _population_m(self) -> np.ndarray:
        n = len(self._outputs)
        return np.arange(n) if n <= _POPULATION else np.sort(np.random.default_rng(0).choice(n, _POPULATION, False))

    @cached_property
    def _sample_mf(self) -> np.ndarray:
        """Features of random synapses."""
        n = len(self._outputs)
        rows = np.sort(np.random.default_rng(0).choice(n, min(n, _N_SAMPLED), replace=False))
        return FeatureRows(self._outputs.synapses.X)[rows]

    def of(self, name: str) -> ColumnStatistics:
        """Statistics of a column."""
        with self._lock:
            if name not in self._of_column:
                self._of_column[name] = ColumnStatistics(self._outputs.columns[name], self._population_m)
            return self._of_column[name]

    def set_summary(self, rows: Sequence[int] | np.ndarray) -> list[dict[str, Any]]:
        """Compare a set of synapses with the rest, column by column, the largest difference first.

        Returns:
            What :meth:`ColumnStatistics.compared` tells, with ``name``, ``label``, ``unit``, ``group`` and ``classes``.
            Columns without any value in the set are left out. Of more than 500,000 synapses, as many at random count.
        """
        chosen = np.asarray(rows, dtype=np.int64)
        if len(chosen) > _POPULATION:
            chosen = np.sort(np.random.default_rng(0).choice(chosen, _POPULATION, replace=False, shuffle=False))
        is_population_n = np.zeros(len(self._outputs), dtype=bool)
        is_population_n[self._population_m] = True
        found = []
        for column in self._outputs.columns.values():
            if column.group in _APART:
                continue
            values = column.values_n[chosen]
            is_known = np.isfinite(values)
            among = values[is_known & is_population_n[chosen]]
            compared = self.of(column.name).compared(values[is_known], among)
            if compared is not None:
                named = {"name": column.name, "label": column.label, "unit": column.unit, "group": column.group}
                found.append(named | {"classes": column.class_names} | compared)
        return sorted(found, key=lambda row: -abs(row["effect"]))

    def shared_values(self, row: int, other: int) -> list[dict[str, Any]]:
        """List what two synapses have in common and few others share, and what sets them apart.

        Returns:
            ``label``, ``one``, ``other`` (texts) and ``between``, the share of all synapses whose value lies between
            theirs or which are of the class of both; None for different classes. The most alike first, those that
            differ most last.
        """
        found = []
        for column in self._outputs.columns.values():
            one, another = float(column.values_n[row]), float(column.values_n[other])
            if column.group in _APART or not (math.isfinite(one) and math.isfinite(another)):
                continue
            if column.class_names:
                texts = column.class_names[int(one)], column.class_names[int(another)]
                between = self.of(column.name).share_between(one, another) if one == another else None
            else:
                texts = number_text(one, column.unit), number_text(another, column.unit)
                between = self.of(column.name).share_between(one, another)
            of_pair = {"label": column.label, "group": column.group, "one": texts[0], "other": texts[1]}
            found.append(of_pair | {"between": None if between is None else round(between, 4)})
        return sorted(found, key=lambda pair: 2.0 if pair["between"] is None else pair["between"])

    def why_similar(self, row: int, other: int) -> dict[str, Any]:
        """Explain a neighbour: its place among all distances, and the values that both share.

        Returns:
            ``distance``; ``nearer_than``, the share of random other synapses that are farther away; ``n_components`` of
            features and ``n_close``, those in which the two differ by less than half a standard deviation; ``shared``
            and ``apart``, at most ten values each of :meth:`shared_values`.
        """
        one_f, another_f = FeatureRows(self._outputs.synapses.X)[np.array([row, other])]
        distance = float(np.linalg.norm(one_f - another_f))
        farther = float((np.linalg.norm(self._sample_mf - one_f, axis=1) > distance).mean())
        spread_f = self._sample_mf.std(axis=0)
        is_close_f = np.abs(one_f - another_f) < 0.5 * spread_f
        values = self.shared_values(row, other)
        shared = [pair for pair in values if pair["between"] is not None and pair["between"] <= 0.5]
        apart = [pair for pair in values if pair["between"] is None or pair["between"] > 0.5]
        return {
            "distance": round(distance, 4),
            "nearer_than": round(farther, 4),
            "n_components": int((spread_f > 0).sum()),
            "n_close": int((is_close_f & (spread_f > 0)).sum()),
            "shared": shared[:_SHARED],
            "apart": apart[::-1][:_SHARED],
        }
