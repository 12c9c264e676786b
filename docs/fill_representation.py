"""Renew the tables of docs/representation.md from benchmarks/results: ``python docs/fill_representation.py``."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
PAGE, RESULTS = PROJECT / "docs/representation.md", PROJECT / "benchmarks/results"
TRAITS = {
    "pre_cell_type": "pre type",
    "post_cell_type": "post type",
    "has_mito_pre": "mito pre",
    "has_mito_post": "mito post",
    "cleft_size_log1p_zscore": "cleft size",
}


def read(name: str) -> list[dict[str, Any]]:
    """The rows of a benchmark."""
    rows: list[dict[str, Any]] = json.loads((RESULTS / f"{name}.json").read_text())["rows"]
    return rows


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def variants(signature: str) -> str:
    """Variants by traits, the mean over volumes and seeds with the spread between volumes."""
    found: dict[str, dict[str, str]] = {}
    for row in read("representation"):
        if row["signature"] == signature:
            spread = "" if row["std_volumes"] is None else f" ± {row['std_volumes']:.3f}"
            found.setdefault(row["variant"], {})[row["trait"]] = f"{row['mean']:.3f}{spread}"
    rows = [[name, *(scores.get(trait, "") for trait in TRAITS)] for name, scores in found.items()]
    return table(["", *TRAITS.values()], rows)


def retrieval() -> str:
    """Mean reciprocal ranks on real EM."""
    found: dict[str, dict[str, str]] = {}
    for row in read("real_em"):
        question, name = row["case"].split(", ")
        found.setdefault(name, {})[question] = f"{row['mean']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
    rows = [
        [name, *(by.get(question, "") for question in ("same neurite", "other view"))] for name, by in found.items()
    ]
    return table(["", "same neurite", "other view of the same synapse"], rows)


def transfer() -> str:
    """Scores in style C by probes of A and B, with those of its own probes in brackets."""
    rows = []
    for row in read("transfer"):
        scores = [f"{row[trait]:.3f} ({row[f'{trait}, fitted in C']:.3f})" for trait in TRAITS]
        rows.append([row["case"], *scores, f"{row['batch_effect']:.2f}"])
    return table(["", *TRAITS.values(), "volume told"], rows)


def analyses() -> str:
    """Results of the analyses by encoder, on volumes that it was not trained on."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in read("former_encoder"):
        if ", other volumes, " in row["case"]:
            measure, rival = row["case"].split(", other volumes, against ")
            found.setdefault(measure, {})[rival] = row
    rows = []
    for measure, rivals in found.items():
        name = measure
        for trait, label in TRAITS.items():
            name = name.replace(trait, label)
        cells = [f"{rivals['former demo']['ours']:.3f}"]
        for row in rivals.values():
            low, high = row["difference_interval_90"]
            cells.append(f"{row['baseline']:.3f} [{low:+.3f}, {high:+.3f}]")
        rows.append([name, *cells])
    return table(["", "demo", "former demo", "the demo's encoder untrained", "statistics of the masks"], rows)


def learning_cost(curve: str) -> str:
    """Scores by what training was given: more seconds, or more synapses of other volumes."""
    given = {"seconds": "epochs", "synapses": "synapses"}[curve]
    rows = [
        [f"{row[given]:,}", f"{row['seconds']:.0f}", *(f"{row[trait]:.3f}" for trait in TRAITS)]
        for row in sorted(read("learning_cost"), key=lambda row: row[given])
        if row["curve"] == curve
    ]
    return table([given, "process seconds", *TRAITS.values()], rows)


def main() -> None:
    """Replace what stands between the marks."""
    text = PAGE.read_text()
    makers = {name: partial(variants, name) for name in ("darkness", "texture")}
    makers |= {name: partial(learning_cost, name) for name in ("seconds", "synapses")}
    for name, make in (makers | {"real": retrieval, "transfer": transfer, "analyses": analyses}).items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        text = re.sub(pattern, lambda found, made=make: f"{found[1]}{made()}\n{found[2]}", text, flags=re.DOTALL)
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
