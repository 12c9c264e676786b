"""Effect sizes and shares of the explorer's columns, against the textbook's computation."""

import numpy as np
import pytest
from explorer_runs import make_outputs
from scipy import stats

from synapseclr.explorer.column_statistics import ColumnStatistics, RunStatistics
from synapseclr.explorer.run_outputs import Column


def test_the_effect_is_the_rank_biserial_correlation():
    rng = np.random.default_rng(0)
    values_n = np.concatenate([rng.normal(1, 1, 40), rng.normal(0, 2, 260), [np.nan] * 5]).astype(np.float32)
    compared = ColumnStatistics(Column("x", "x", "", values_n), np.arange(305)).compared(values_n[:40], values_n[:40])
    u = stats.mannwhitneyu(values_n[:40], values_n[40:300]).statistic
    assert compared["effect"] == pytest.approx(2 * u / (40 * 260) - 1, abs=0.005)
    assert sum(compared["bars_set"]) == pytest.approx(1, abs=0.01)
    assert sum(compared["bars_rest"]) == pytest.approx(1, abs=0.01)
    assert float(compared["rest"]) == pytest.approx(np.median(values_n[40:300]), abs=0.05)


def test_classes_differ_by_the_share_that_would_have_to_change():
    codes_n = np.array([0] * 10 + [1] * 20 + [2] * 70, np.float32)
    column = Column("c", "c", "", codes_n, ("a", "b", "d"))
    statistics = ColumnStatistics(column, np.arange(100))
    compared = statistics.compared(codes_n[:20], codes_n[:20])
    shares = np.array([0.5, 0.5, 0.0]), np.array([0.0, 10 / 80, 70 / 80])
    assert compared["effect"] == pytest.approx(np.abs(shares[0] - shares[1]).sum() / 2, abs=1e-3)
    assert (compared["set"], compared["rest"]) == ("50% a", "0% a")
    assert statistics.share_between(1, 1) == pytest.approx(0.2)


def test_everything_selected_has_no_effect(tmp_path):
    outputs = make_outputs(tmp_path)
    assert {row["effect"] for row in RunStatistics(outputs).set_summary(range(len(outputs)))} == {0.0}
