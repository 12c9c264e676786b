"""NT-Xent, forward and backward, against the broadcast form: ``python benchmarks/objectives.py``.

The baseline is written here, as one would at first: ``cosine_similarity`` of every view with every other, broadcast,
which makes tensors of (2B, 2B, D). The two alternate in one process for their medians; the peak memory of each is the
rise of the largest resident set (``ru_maxrss``) over a small warm-up, in a process of its own. Every process is
started by one that never imports torch, since a child inherits its parent's ``ru_maxrss``. Writes
``benchmarks/results/objectives.json``.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results/objectives.json"
BATCH, DIMENSION, TEMPERATURE = 512, 128, 0.5
REPEATS = {"ours": 10, "baseline": 1}  # in each of ROUNDS
ROUNDS = 5
NEEDED_GB = 6.0
GB = 1e9


def objectives() -> dict[str, Any]:
    """Both forms of the loss, (z_i, z_j) -> scalar."""
    import torch
    from torch.nn import functional

    from synapseclr.objectives import nt_xent

    def broadcast(z_i: torch.Tensor, z_j: torch.Tensor) -> torch.Tensor:
        z = torch.cat([z_i, z_j])
        similarity = functional.cosine_similarity(z[:, None], z[None], dim=2) / TEMPERATURE
        n = len(z_i)
        positives = torch.cat([similarity.diagonal(n), similarity.diagonal(-n)])[:, None]
        anchor = torch.arange(2 * n)
        others = (anchor[:, None] - anchor) % n != 0
        logits = torch.cat([positives, similarity[others].reshape(2 * n, -1)], dim=1)
        return functional.cross_entropy(logits, torch.zeros(2 * n, dtype=torch.long))

    return {"ours": lambda z_i, z_j: nt_xent(z_i, z_j, TEMPERATURE), "baseline": broadcast}


def step(objective: Any, batch: int) -> tuple[float, float]:
    """Seconds of one forward and backward pass, and the loss."""
    import torch

    generator = torch.Generator().manual_seed(0)
    z_i, z_j = (torch.randn(batch, DIMENSION, generator=generator, requires_grad=True) for _ in range(2))
    start = time.perf_counter()
    loss = objective(z_i, z_j)
    loss.backward()
    return time.perf_counter() - start, loss.item()


def measure_memory(name: str) -> dict[str, float]:
    """Rise of the largest resident set, in GB, from a batch of 16 to one of BATCH."""
    objective = objectives()[name]
    step(objective, 16)
    unit = GB if sys.platform == "darwin" else GB / 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step(objective, BATCH)
    return {"peak": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / unit}


def measure_time() -> dict[str, Any]:
    """Median seconds of both, alternating, and the losses."""
    import torch

    forms = objectives()
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    losses = {name: step(objective, BATCH)[1] for name, objective in forms.items()}  # warms up, too
    for _ in range(ROUNDS):
        for name, objective in forms.items():
            seconds[name] += [step(objective, BATCH)[0] for _ in range(REPEATS[name])]
    if abs(losses["ours"] / losses["baseline"] - 1) > 1e-5:
        raise ValueError(f"the two forms disagree: {losses}")
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    return {"seconds": medians, "losses": losses, "torch": torch.__version__, "threads": torch.get_num_threads()}


def in_child(measurement: str) -> dict[str, Any]:
    """Run one measurement in a fresh process."""
    command = [sys.executable, __file__, "--measure", measurement]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def check_memory() -> None:
    """Stop if the baseline would not fit."""
    import psutil

    available = psutil.virtual_memory().available / GB
    if available < NEEDED_GB:
        sys.exit(f"The broadcast form needs about {NEEDED_GB:g} GB, but only {available:.1f} GB are available.")


def main() -> None:
    """Run the benchmark and write its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", choices=["time", "ours", "baseline"], help="used by this script itself")
    measurement = parser.parse_args().measure
    if measurement:
        print(json.dumps(measure_time() if measurement == "time" else measure_memory(measurement)))
        return
    check_memory()
    peak = {name: in_child(name)["peak"] for name in ("ours", "baseline")}
    timing = in_child("time")
    case = f"NT-Xent forward and backward, batch {BATCH}, {DIMENSION} dimensions"
    rows = [
        {"case": f"{case}: {what}", **values, "unit": unit, "ratio": values["baseline"] / values["ours"]}
        for what, values, unit in (("time", timing["seconds"], "s"), ("peak memory", peak, "GB"))
    ]
    for row in rows:
        print(f"{row['case']}: {row['ours']:.4f} {row['unit']}, broadcast {row['baseline']:.3f}, {row['ratio']:.0f} x")
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": timing["threads"],
        "torch": timing["torch"],
        "load_average": os.getloadavg()[0],
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
