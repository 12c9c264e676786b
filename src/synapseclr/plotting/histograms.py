"""Histograms of the preprocessed data: their quality, and the sizes of synapses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synapseclr.analysis.column_labels import column_label, number_text
from synapseclr.plotting.theme import CYCLE, INK, MUTED, SMALL_PT, new_figure, note, style_axes, subplot_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FLAGS = {
    "n_padded": "is_padded",
    "n_pre_missing": "is_pre_missing",
    "n_post_missing": "is_post_missing",
    "n_autapses": "is_autapse",
}
"""Numbers of the report to the columns that they count."""


def preprocessing_histograms(report: Mapping[str, Any]) -> Figure:
    """Draw what preprocessing found.

    Args:
        report: The preprocessing report; used are ``cutout_sections`` (number of missing sections to number of
            synapses), ``intensity`` (``histogram`` over equal bins of [0, 1] without the value 0, ``mean``, ``std``,
            ``zero_fraction``), ``n_chunks``, ``rejected`` (synapse id to reason) and the ``n_...`` flags.

    Returns:
        A figure with three axes: missing sections, intensities, flagged and rejected synapses.
    """
    figure = new_figure(10.2, 2.9)
    cutouts, intensities, flags = figure.subplots(1, 3)
    _draw_cutouts(cutouts, report.get("cutout_sections", {}))
    _draw_intensities(intensities, report.get("intensity", {}))
    _draw_flags(flags, report)
    return figure


def _draw_cutouts(axes: Axes, cutout_sections: Mapping[str, int]) -> None:
    from matplotlib.ticker import MaxNLocator

    style_axes(axes, "Missing sections", "missing sections in a chunk", "synapses", grid="y")
    if not cutout_sections:
        note(axes, "not recorded")
        return
    counts = {int(number): int(count) for number, count in cutout_sections.items()}
    axes.bar(list(counts), list(counts.values()), width=0.8, color=CYCLE[0])
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlim(-0.6, max(*counts, 4) + 0.6)


def _draw_intensities(axes: Axes, intensity: Mapping[str, Any]) -> None:
    style_axes(axes, "Intensity", "intensity (0 black, 1 white)", "fraction of voxels", grid="y")
    counts_b = np.asarray(intensity.get("histogram", ()), dtype=float)
    if not counts_b.sum():
        note(axes, "not recorded")
        return
    edges = np.linspace(0.0, 1.0, len(counts_b) + 1)
    axes.stairs(counts_b / counts_b.sum(), edges, fill=True, color=CYCLE[4], alpha=0.9)
    axes.axvline(intensity["mean"], color=CYCLE[0], linewidth=1.2)
    axes.set_xlim(0, 1)
    text = f"mean {intensity['mean']:.3f}\nstd {intensity['std']:.3f}\nzeros {intensity['zero_fraction']:.2%}"
    axes.text(0.98, 0.96, text, transform=axes.transAxes, ha="right", va="top", fontsize=SMALL_PT, color=MUTED)


def _draw_flags(axes: Axes, report: Mapping[str, Any]) -> None:
    from matplotlib.ticker import MaxNLocator

    style_axes(axes, "Flagged and rejected", "synapses", grid="x")
    bars = [(column_label(name).name, int(report[key]), CYCLE[1]) for key, name in _FLAGS.items() if key in report]
    reasons = Counter(_shorten(reason) for reason in report.get("rejected", {}).values())
    bars += [(f"rejected: {reason}", count, CYCLE[5]) for reason, count in reasons.most_common(5)]
    if not reasons:
        bars.append(("rejected", int(report.get("n_rejected", 0)), CYCLE[5]))
    labels, counts, colours = zip(*bars, strict=True)
    drawn = axes.barh(range(len(bars)), counts, height=0.6, color=colours)
    axes.bar_label(drawn, padding=3, fontsize=SMALL_PT, color=MUTED)
    axes.set_yticks(range(len(bars)), labels)
    axes.invert_yaxis()
    axes.set_xlim(0, max(1.0, 1.15 * max(counts)))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _shorten(reason: str, length: int = 34) -> str:
    return reason if len(reason) <= length else f"{reason[: length - 1]}…"


_LETTERS = 34  # of a line below a panel
_DRAWN_SIZES = (
    "cleft_area_nm2",
    "cleft_length_nm",
    "cleft_thickness_nm",
    "contact_area_nm2",
    "pre_volume_um3",
    "post_volume_um3",
    "pre_to_post_nm",
    "post_border_share",
)


def morphometry_histograms(sizes: pd.DataFrame, n_bins: int = 30) -> Figure:
    """Draw the distributions of synapses' sizes, each with its unit and its median.

    Args:
        sizes: The table of morphometry.
        n_bins: Bins of each histogram, at most.

    Returns:
        A figure of eight panels.
    """
    from matplotlib.ticker import MaxNLocator

    figure, panels = subplot_grid(len(_DRAWN_SIZES), 4, (2.42, 2.0), (0.3, 0.2))
    for name, axes in zip(_DRAWN_SIZES, panels, strict=True):
        colour = CYCLE[3] if name.startswith("pre_v") else CYCLE[2] if name.startswith("post") else CYCLE[0]
        values_n = sizes[name].dropna().to_numpy(np.float64)
        style_axes(axes, "", fill(str(column_label(name)), _LETTERS), "synapses", grid="y")
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.xaxis.set_major_formatter(lambda value, _: number_text(value))
        if not len(values_n):
            note(axes, "none")
            continue
        drawn_n = values_n[values_n <= np.quantile(values_n, 0.995)]
        axes.hist(drawn_n, min(n_bins, 5 + len(drawn_n) // 8), range=_ends(drawn_n), color=colour, alpha=0.9)
        axes.axvline(float(np.median(values_n)), color=INK, linewidth=1.0)
    return figure


def _ends(values_n: np.ndarray) -> tuple[float, float]:
    """Ends of a histogram; around values that differ by rounding alone, between which there is room for no bins."""
    low, high = float(values_n.min()), float(values_n.max())
    if high - low > 1e-6 * max(abs(low), abs(high), 1e-12):
        return low, high
    half = 0.5 * max(1.0, abs(low))
    return low - half, high + half
