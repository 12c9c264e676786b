"""Typing neurites with 5 to 1 % of the synapses labelled: ``python benchmarks/consensus.py``.

The demo has 592 synapses, of which 1 % are six: too few to train on. So this is measured on simulated embeddings
(``synapseclr.simulation.embeddings``): 40,000 synapses with 128 features, neurites of all sizes that share their type
and a part of their looks, so that errors within a neurite are correlated. Accuracy is counted on neurites without any
label, by synapses per neurite (published: 1 to 20, 21 to 50, more; here 1 to 20 in two), with 90 % intervals over
neurites. Rows: ``ours`` is the accuracy of neurites, ``baseline`` that of their single synapses; then log loss and
calibration error of the posterior with shared errors accounted for (``ours``), and as if synapses were independent.
Writes ``benchmarks/results/consensus.json``; every seed is kept in ``--folder``, and a stopped run goes on from there.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import pandas as pd

from synapseclr.analysis.config import ConsensusConfig, ImputationConfig
from synapseclr.analysis.consensus import evaluate_censored, evaluate_consensus
from synapseclr.analysis.traits.calibration import grouped_interval
from synapseclr.simulation.embeddings import SimulatedEmbeddings, simulate_embeddings

RESULT = Path(__file__).parent / "results/consensus.json"
FRACTIONS = (0.05, 0.04, 0.03, 0.02, 0.01)
STRATA = (5, 20, 50)
CASES: dict[str, dict[str, Any]] = {
    "types easily told, errors little shared": {},
    "types hard to tell, errors much shared": {"shared": (0.3, 0.3), "type_effects": (0.7, 0.7)},
}


def draw(simulated: SimulatedEmbeddings, fraction: float, seed: int) -> pd.DataFrame:
    """Neurites tested with one draw of labels."""
    config = ConsensusConfig(label_fractions=(fraction,), n_label_seeds=1, strata=STRATA)
    truth = simulated.annotations
    # Another draw of the labels is another order of the synapses.
    order = truth.sample(frac=1.0, random_state=seed).index.to_numpy()
    found = evaluate_censored(
        simulated.features_nf[order], truth.iloc[order].reset_index(drop=True), config, ImputationConfig()
    )
    if len(found.failed):
        raise RuntimeError(f"{fraction}: {found.failed['reason'].iloc[0]}")
    return found.neurites.assign(fraction=fraction, seed=seed)


def rows_of(name: str, fraction: float, neurites: pd.DataFrame) -> list[dict[str, Any]]:
    """Result rows of one fraction."""
    evaluation = evaluate_consensus(neurites, ConsensusConfig(strata=STRATA)).set_index(["stratum", "method"])
    rows = []
    for stratum in evaluation.index.get_level_values(0).unique():
        ours, independent = evaluation.loc[(stratum, "corrected")], evaluation.loc[(stratum, "independent")]
        which = "all neurites" if stratum == "all" else f"neurites of {stratum} synapses"
        case = f"{name}, {100 * fraction:g} % labels, {which}"
        single = ours["synapse_accuracy"]
        chosen = neurites if stratum == "all" else neurites[_in(neurites["n_synapses"], stratum)]
        gain = ((chosen["probability"] > 0.5) == (chosen["target"] == 1)) - chosen["synapse_accuracy"]
        gain_lower, gain_upper = grouped_interval(gain.to_numpy(float), chosen["root_id"].to_numpy())
        rows.append(
            {
                "case": f"{case}: accuracy",
                "ours": ours["accuracy"],
                "baseline": single,
                "unit": "share",
                "ratio": ours["accuracy"] / single,
                "lower_90": ours["lower_90"],
                "upper_90": ours["upper_90"],
                "gain_lower_90": gain_lower,
                "gain_upper_90": gain_upper,
                "n_neurites": int(ours["n_neurites"]),
                "n_seeds": int(neurites["seed"].nunique()),
                "typed": ours["called"],
                "accuracy_typed": ours["accuracy_called"],
            }
        )
        for measure, unit in (("log_loss", "nats"), ("expected_calibration_error", "share")):
            values = {"ours": ours[measure], "baseline": independent[measure], "unit": unit}
            ratio = independent[measure] / ours[measure] if ours[measure] > 0 else None
            rows.append({"case": f"{case}: {measure}", **values, "ratio": ratio})
    return rows


def _in(sizes: pd.Series, stratum: str) -> pd.Series:
    ends = stratum.replace(" and more", " to 1000000000").split(" to ")
    return sizes.between(int(ends[0]), int(ends[-1]))


def main() -> None:
    """Run the benchmark and write its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--synapses", type=int, default=40_000)
    parser.add_argument("--seeds", type=int, default=3, help="0: from the draws of earlier runs")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/synapseclr_consensus"))
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (name, properties) in enumerate(CASES.items()):
        simulated = simulate_embeddings(arguments.synapses, n_features=128, synapses_per_neurite=20, **properties)
        for fraction in FRACTIONS:
            for seed in range(arguments.seeds):
                path = arguments.folder / f"{number}_{arguments.synapses}_{fraction}_{seed}.parquet"
                if not path.exists():
                    start = time.perf_counter()
                    draw(simulated, fraction, seed).to_parquet(path)
                    print(f"{name}, {100 * fraction:g} %, seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)
            # Draws of earlier runs count too; every row says how many there are.
            paths = sorted(arguments.folder.glob(f"{number}_{arguments.synapses}_{fraction}_*.parquet"))
            if paths:
                rows += rows_of(name, fraction, pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True))
    for row in rows:
        print(f"{row['case']}: {row['ours']:.3f} against {row['baseline']:.3f}")
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "synapses": arguments.synapses,
        "load_average": os.getloadavg()[0],
    }
    arguments.result.parent.mkdir(exist_ok=True)
    arguments.result.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
