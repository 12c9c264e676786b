"""Quality of the preprocessed data in three histograms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.plotting.theme import CYCLE, MUTED, new_figure, note, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FLAGS = {
    "n_padded": "padded at the volume's edge",
    "n_pre_missing": "no presynaptic mask",
    "n_post_missing": "no postsynaptic mask",
    "n_autapses": "autapses",
}


def preprocessing_histograms(report: Mapping[str, Any]) -> Figure:
    """Draw what preprocessing found.

    Args:
        report: The preprocessing report; used are ``cutout_sections`` (number of cut-out sections to number of
            synapses), ``intensity`` (``histogram`` over equal bins of [0, 1] without the value 0, ``mean``, ``std``,
            ``zero_fraction``), ``n_chunks``, ``rejected`` (synapse id to reason) and the ``n_...`` flags.

    Returns:
        A figure with three axes: cut-out sections, intensities, flagged and rejected synapses.
    """
    figure = new_figure(10.2, 2.9)
    cutouts, intensities, flags = figure.subplots(1, 3)
    _draw_cutouts(cutouts, report.get("cutout_sections", {}))
    _draw_intensities(intensities, report.get("intensity", {}))
    _draw_flags(flags, report)
    return figure


def _draw_cutouts(axes: Axes, cutout_sections: Mapping[str, int]) -> None:
    from matplotlib.ticker import MaxNLocator

    style_axes(axes, "Cut-out sections", "cut-out sections in a chunk", "synapses", grid="y")
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
    axes.text(0.98, 0.96, text, transform=axes.transAxes, ha="right", va="top", fontsize=7.5, color=MUTED)


def _draw_flags(axes: Axes, report: Mapping[str, Any]) -> None:
    from matplotlib.ticker import MaxNLocator

    style_axes(axes, "Flagged and rejected", "synapses", grid="x")
    bars = [(label, int(report[key]), CYCLE[1]) for key, label in _FLAGS.items() if key in report]
    reasons = Counter(_shorten(reason) for reason in report.get("rejected", {}).values())
    bars += [(f"rejected: {reason}", count, CYCLE[5]) for reason, count in reasons.most_common(5)]
    if not reasons:
        bars.append(("rejected", int(report.get("n_rejected", 0)), CYCLE[5]))
    labels, counts, colours = zip(*bars, strict=True)
    drawn = axes.barh(range(len(bars)), counts, height=0.6, color=colours)
    axes.bar_label(drawn, padding=3, fontsize=7.5, color=MUTED)
    axes.set_yticks(range(len(bars)), labels)
    axes.invert_yaxis()
    axes.set_xlim(0, max(1.0, 1.15 * max(counts)))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _shorten(reason: str, length: int = 34) -> str:
    return reason if len(reason) <= length else f"{reason[: length - 1]}…"
