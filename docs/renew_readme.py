"""Renew the results in the README from a demo's evaluation: ``python docs/renew_readme.py [--data-root=FOLDER]``.

Replaces what stands between ``<!-- demo -->`` and ``<!-- /demo -->``. Run it after ``make demo``, and read what it
wrote: the sentences are templates, and a result that turned round may need another sentence.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

from synapseclr.analysis.imputation.evaluation_document import strongest_rival

PROJECT = Path(__file__).resolve().parents[1]
START, END = "<!-- demo -->", "<!-- /demo -->"
TRAITS = {
    "pre_cell_type": "presynaptic cell type",
    "post_cell_type": "postsynaptic cell type",
    "has_mito_post": "postsynaptic mitochondrion",
    "has_mito_pre": "presynaptic mitochondrion",
    "cleft_size_log1p_zscore": "cleft size (explained variance)",
}
WAYS = ("mahalanobis", "examples_5")
LAYER = "encoder.fc"


def results(evaluation: dict[str, Any]) -> str:
    """The README's results as Markdown.

    Args:
        evaluation: The contents of ``evaluation.json`` of a demo.
    """
    scores = evaluation["representations"]
    folds = scores["synapseclr"][LAYER]["pre_cell_type"]["folds"]
    lines = [
        f"{evaluation['n_synapses']} synapses, {evaluation['epochs']} epochs. ROC AUC of a linear probe, {folds} folds "
        "split by neurite (mean ± standard deviation). The strongest rival is the best of four that cost no training: "
        "the same encoder untrained, one untrained convolution, statistics of the image, statistics of the masks.",
        "",
        "| trait | trained encoder | the same untrained | strongest rival | trained, with mask statistics |",
        "|---|---|---|---|---|",
    ]
    for trait, label in TRAITS.items():
        trained, untrained, joined = (
            f"{scores[name][LAYER][trait]['mean']:.3f} ± {scores[name][LAYER][trait]['std']:.3f}"
            for name in ("synapseclr", "random", "synapseclr+statistics")
        )
        rival, score = strongest_rival(scores, trait)
        lines.append(f"| {label} | {trained} | {untrained} | {score['mean']:.3f} ({rival}) | {joined} |")
    neurites = evaluation["consensus"]["all"]["corrected"]
    defects = evaluation["outliers"]
    names = {"synapseclr/encoder.fc": "features", "mask_statistics/statistics": "statistics of the masks"}
    found = [(label, *(defects[f"outliers/{name}/{way}/roc_auc"] for way in WAYS)) for name, label in names.items()]
    lines += [
        "",
        f"A neurite's cell type from all of its synapses is right for {neurites['accuracy']:.0%} of "
        f"{neurites['n_neurites']:.0f} held-out neurites [90 % interval {100 * neurites['lower_90']:.0f}, "
        f"{100 * neurites['upper_90']:.0f}], against {neurites['synapse_accuracy']:.0%} for single synapses.",
        "",
        "Synapses that the simulation made defective are found with a ROC AUC of "
        + "; ".join(f"{none:.2f} by {label} ({five:.2f} with five examples)" for label, none, five in found)
        + ".",
    ]
    return re.sub(r"(\d)%", r"\1 %", "\n".join(lines))


def main() -> None:
    """Renew the README."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=PROJECT / "data")
    evaluation = json.loads((parser.parse_args().data_root / "08_reporting/evaluation.json").read_text())
    readme = PROJECT / "README.md"
    before, _, rest = readme.read_text().partition(START)
    after = rest.partition(END)[2]
    readme.write_text(f"{before}{START}\n{results(evaluation)}\n{END}{after}")
    print(readme)


if __name__ == "__main__":
    main()
