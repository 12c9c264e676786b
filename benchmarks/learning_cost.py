"""The gain from more seconds and more synapses for an encoder: ``python benchmarks/learning_cost.py SCRATCH``.

Encoders are trained by the demo's parameters and scored on one volume as in ``representation.py``: by linear probes,
over folds split by neurite.

- *seconds*: trained on that volume, with more and more epochs; 0 epochs is the untrained encoder. Every row is a
  training of its own, with a whole schedule of the learning rate.
- *synapses*: trained with the demo's number of steps on synapses of other volumes, which the scored volume is not one
  of; so more synapses means more different ones, not more compute.

One thread if ``OMP_NUM_THREADS=1`` is set; ``seconds`` are process seconds of the training. Finished rows are kept in
SCRATCH, and the same command goes on after them. Writes ``benchmarks/results/learning_cost.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
from representation import LAYER, TRAITS, demo_parameters, kept, load, make_volume, pretraining_of, scores_of
from transfer import write_store

RESULT = Path(__file__).parent / "results/learning_cost.json"
SCORED = 401
OTHERS = tuple(range(431, 440))
EPOCHS = (0, 8, 30, 120, 450)  # about 0, 15, 60, 240 and 900 seconds of one core at the demo's size
SYNAPSES = (300, 600, 1800, 5000)


def joined(scratch: Path, n: int) -> Any:
    """A store of n synapses of the other volumes, whole volumes first."""
    chunks, like = [], None
    for seed in OTHERS:
        folder = scratch / f"darkness_{seed}"
        make_volume(folder, seed, "darkness")
        like, _ = load(folder)
        chunks.append(like.read(slice(0, min(len(like), n - sum(map(len, chunks))))))
        if sum(map(len, chunks)) == n:
            break
    return write_store(scratch / f"joined_{n}.zarr", np.concatenate(chunks), like)


def trained(store: Any, epochs: int, seed: int, scratch: Path) -> tuple[Any, float]:
    """Weights after a number of epochs, and the process seconds of the training."""
    from synapseclr.training import fit, untrained_weights

    config = pretraining_of(demo_parameters(), "demo", seed)
    monitoring = config.monitoring.model_copy(update={"probe_every_n_epochs": max(epochs, 1)})
    config = config.model_copy(update={"epochs": max(epochs, 1), "monitoring": monitoring})
    start = time.process_time()
    if epochs == 0:
        return untrained_weights(config.model, store, config), 0.0
    weights = fit(store, config, str(scratch / "checkpoints")).weights
    return weights, time.process_time() - start


def main() -> None:
    """Train what is missing, then write and print the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--epochs", type=int, nargs="*", default=EPOCHS)
    parser.add_argument("--synapses", type=int, nargs="*", default=SYNAPSES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--output", type=Path, default=RESULT)
    given = parser.parse_args()
    import torch

    from synapseclr.training import EmbeddingConfig, embed_store

    given.scratch.mkdir(parents=True, exist_ok=True)
    parameters, path = demo_parameters(), given.scratch / "learning_cost.jsonl"
    folder = given.scratch / f"darkness_{SCORED}"
    make_volume(folder, SCORED, "darkness")
    scored, table = load(folder)
    config = pretraining_of(parameters, "demo", 0)
    n_steps = config.epochs * int(len(scored) * (1 - config.validation_fraction)) // config.batch_size
    cases = [("seconds", epochs) for epochs in given.epochs] + [("synapses", n) for n in given.synapses]
    for curve, value in cases:
        for seed in given.seeds:
            key = f"{curve} {value} {seed}"
            if key in kept(path):
                continue
            store = scored if curve == "seconds" else joined(given.scratch, value)
            steps_of_epoch = int(len(store) * (1 - config.validation_fraction)) // config.batch_size
            epochs = value if curve == "seconds" else round(n_steps / steps_of_epoch)
            weights, seconds = trained(store, epochs, seed, given.scratch)
            embedding = EmbeddingConfig(**parameters["embedding"])
            features_nf = embed_store(weights.build(), scored, config.augmentation, embedding)[LAYER]
            row = {"key": key, "case": f"{curve}: {value}", "curve": curve, "seed": seed}
            row |= {"epochs": epochs, "synapses": len(store), "seconds": round(seconds, 1)}
            row |= {t: round(s, 4) for t, s in scores_of(features_nf, table, parameters).items() if t in TRAITS}
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    rows = [{name: value for name, value in row.items() if name != "key"} for row in kept(path).values()]
    processor = platform.processor() or platform.machine()
    machine = {"processor": processor, "cores": os.cpu_count(), "torch": torch.__version__}
    given.output.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
