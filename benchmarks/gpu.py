"""Everything that only a GPU can show, in one command: ``make gpu-bench``, or ``python benchmarks/gpu.py``.

It needs no data, no network and no Kedro: ``scripts/gpu_bundle.sh`` packs the sources, the parameters of
``conf/microns`` and the packages that a machine lacks into one folder. Ten minutes at most; parts that no time is left
for are listed. A part that fails says so in the result, and the next one runs.

- *view parity*: every operation of the views of training and of extraction, corrected and published, with the same
  draws on CPU and GPU, one operation after the other from equal states; noise, whose field each device generates, by
  its mean and spread.
- *encoder parity*: every encoder in fp32, features and gradients.
- *paths*: code that runs on a GPU only, once each by a short training: 16-mixed, bf16-mixed, channels last, compiled,
  batch norms of all processes under NCCL with one process; clocks by CUDA events; resuming on the GPU bit for bit.
- *augmentation*: milliseconds a view and host synchronisations a view, at batch 48 of full-size chunks.
- *ceiling*, *training*: the published configuration (batch 48, 96^3, two views) on full-size chunks that worker
  processes read from disk, in several precisions: synapses/s, TFLOP/s, also as a share of a bf16 matrix product
  measured here, and the parts of a step.
- *loader*: synapses/s that the loader delivers from disk when nothing waits for it.
- *embedding*: synapses/s of the published extraction, and of eight poses.

``--device=cpu`` runs all of it at a tiny size, to show that it will run on a GPU; its figures mean nothing. Writes
``benchmarks/results/gpu.json``: for each part the seconds, and rows or the error.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from throughput import RepeatedStore, breakdown, configuration, make_store, median, run_engine

from synapseclr.augmentation import Augmenter
from synapseclr.models import BACKBONE_NAMES, ENCODER_NAMES, ModelConfig
from synapseclr.training import EmbeddingConfig, PretrainingConfig, embed_store, fit

RESULT = Path(__file__).parent / "results/gpu.json"
LIMIT_S = 570.0
PRECISIONS: dict[str, dict[str, Any]] = {
    "bf16, channels last, compiled": {"precision": "bf16-mixed", "channels_last": True, "compile": True},
    "bf16, channels last": {"precision": "bf16-mixed", "channels_last": True},
    "bf16": {"precision": "bf16-mixed"},
    "fp32 (convolutions in TF32, torch's default)": {},
}
FIELDS = ("pixel_noise", "swiss_cheese")  # their fields come from each device's own generator
FORWARD_TOLERANCE, GRADIENT_TOLERANCE, VIEW_TOLERANCE = 1e-3, 1e-2, 2e-3
Row = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """Sizes of what is measured: those of the published configuration, or tiny ones."""

    device: torch.device
    chunk_vx: tuple[int, int, int]
    batch: int
    final_img_size: int
    n_chunks: int
    steps: int
    workers: int

    @property
    def on_gpu(self) -> bool:
        """True if there is something to measure."""
        return self.device.type == "cuda"

    def pretraining(self, **changes: Any) -> PretrainingConfig:
        """The published pretraining at these sizes."""
        config = configuration("microns", **changes)
        if self.on_gpu:
            return config
        tiny = {"augmentation": config.augmentation.resized(48, self.final_img_size), "batch_size": self.batch}
        return config.model_copy(update=tiny | {"model": config.model.model_copy(update={"width_factor": 0.125})})

    def trained(self, **changes: Any) -> PretrainingConfig:
        """The same, for a training of a few steps."""
        accelerator = "gpu" if self.on_gpu else "cpu"
        return self.pretraining(accelerator=accelerator, num_workers=self.workers, chunk_cache_mb=0, **changes)


GPU = {"chunk_vx": (256, 256, 52), "batch": 48, "final_img_size": 96, "n_chunks": 96, "steps": 30}
TINY = {"chunk_vx": (64, 64, 16), "batch": 4, "final_img_size": 24, "n_chunks": 8, "steps": 2}


def wait(sizes: Sizes) -> None:
    """Wait for the device."""
    if sizes.on_gpu:
        torch.cuda.synchronize()


def milliseconds(call: Callable[[], object], sizes: Sizes, repeats: int) -> float:
    """Median wall-clock time of a call, after one to warm up."""
    call()
    times = []
    for _ in range(repeats):
        wait(sizes)
        start = time.perf_counter()
        call()
        wait(sizes)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def difference(ours: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference, relative to the largest value."""
    a, b = ours.detach().float().cpu(), other.detach().float().cpu()
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-6)) if b.numel() else 0.0


def random_chunks(sizes: Sizes, n: int) -> torch.Tensor:
    """Chunks with smooth noise and three slabs of mask codes, uint8 (n, 2, x, y, z)."""
    from chunk_reading import synthetic_batches

    return torch.from_numpy(synthetic_batches(n, sizes.chunk_vx, n)[0].chunk_ncxyz)


def view_parity(sizes: Sizes, _: RepeatedStore) -> Iterator[Row]:
    """Differences of the views of CPU and GPU, operation by operation."""
    base = sizes.pretraining().augmentation
    chunks = random_chunks(sizes, 4)
    for recipe, config in (("so3", base), ("display", base.for_extraction())):
        for fidelity in ("corrected", "published"):
            for mode in ("coupled", "decoupled"):
                augmenter = Augmenter(config.replaced(fidelity=fidelity, batch_mode=mode))
                yield from _one_recipe(f"{recipe}, {fidelity}, {mode}", augmenter, chunks, sizes)


def _one_recipe(case: str, augmenter: Augmenter, chunks: torch.Tensor, sizes: Sizes) -> Iterator[Row]:
    here = augmenter.prepare(chunks)
    there = augmenter.prepare(chunks.to(sizes.device))
    draws = augmenter.draw(here, torch.Generator().manual_seed(1))
    views = augmenter.begin(here), augmenter.begin(there)
    for name, operation in zip(augmenter.names, augmenter.operations, strict=True):
        for view in views:
            operation.apply(view, draws.get(name))
        images = [view.intensity_bcxyz for view in views]
        if name in FIELDS:
            found = [torch.stack([image.mean(), image.std()]) for image in images]
            share = 0.0
        else:
            found, masks = images, [view.mask_bcxyz for view in views]
            share = float((masks[0] != masks[1].cpu()).float().mean()) if masks[0].numel() else 0.0
        error = difference(found[1], found[0])
        # A voxel whose coordinate lies on a cell's border may be rounded to either side.
        holds = (error <= VIEW_TOLERANCE or _rare(found, VIEW_TOLERANCE)) and share <= VIEW_TOLERANCE
        yield {"case": f"{case}: {name}", "difference": error, "masks_differ": share, "holds": bool(holds)}
        # The next operation starts from equal states, whatever this one did.
        for field in ("intensity_bcxyz", "mask_bcxyz", "weight_bcxyz", "distance_bcxyz", "section_bxyz"):
            value = getattr(views[0], field)
            if value is not None:
                setattr(views[1], field, value.to(sizes.device))
        views[1].shown = [each.to(sizes.device) for each in views[0].shown]


def _rare(found: list[torch.Tensor], tolerance: float) -> bool:
    differs = (found[0].cpu() - found[1].cpu()).abs() > tolerance * found[0].abs().max().cpu().clamp(min=1e-6)
    return float(differs.float().mean()) <= tolerance


def encoder_parity(sizes: Sizes, _: RepeatedStore) -> Iterator[Row]:
    """Differences of every encoder's features and gradients between CPU and GPU, without TF32."""
    size = 48 if sizes.on_gpu else 32
    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(2, 3, size, size, size, generator=generator) > 0.5).to(torch.bool)
    names = ["region_resnet", "single_convolution", *ENCODER_NAMES, *(BACKBONE_NAMES if sizes.on_gpu else ())]
    width_factor = 1.0 if sizes.on_gpu else 0.125
    with exact_convolutions():
        for name in dict.fromkeys(names):
            try:
                config = ModelConfig(encoder=name, width_factor=width_factor, projection_dims=(32, 16))
                model = config.build(0)
                image = torch.randn(2, config.in_channels, size, size, size, generator=generator)
                results = [_forward_and_gradient(model, image, mask, d) for d in (torch.device("cpu"), sizes.device)]
                forward, gradient = (difference(results[1][part], results[0][part]) for part in (0, 1))
                holds = forward <= FORWARD_TOLERANCE and gradient <= GRADIENT_TOLERANCE
                yield {"case": f"{name}", "difference": forward, "gradient_differs": gradient, "holds": holds}
            except (RuntimeError, ImportError, ValueError) as error:
                yield {"case": f"{name}", "error": f"{type(error).__name__}: {error}"[:300], "holds": False}


def _forward_and_gradient(model: Any, image: torch.Tensor, mask: torch.Tensor, device: torch.device) -> list[Any]:
    model.to(device).train()
    model.zero_grad()
    layers = model(image.to(device), mask.to(device))
    output = layers["encoder.fc"]
    layers["projector.mlp.3"].square().mean().backward()
    gradients = [p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None]
    return [output.detach().cpu(), torch.cat(gradients)]


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Convolutions and products in full fp32."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


class StoppedError(Exception):
    """Ends a training after its first epoch."""


def gpu_paths(sizes: Sizes, store: RepeatedStore) -> Iterator[Row]:
    """Short trainings through every path that a GPU alone takes."""
    cases: dict[str, dict[str, Any]] = {
        "fp32": {},
        "bf16-mixed": {"precision": "bf16-mixed"},
        "channels last": {"channels_last": True},
    }
    if sizes.on_gpu:
        cases |= {"16-mixed": {"precision": "16-mixed"}, "compiled": {"compile": True}}
    for case, changes in cases.items():
        rows = run_engine(store, sizes.trained(epochs=2, **changes), lambda: None)
        loss = rows[-1]["train_loss"]
        yield {"case": case, "train_loss": loss, "holds": bool(np.isfinite(loss))}
    yield _one_process(sizes, store)
    yield _resumed(sizes, store)


def _one_process(sizes: Sizes, store: RepeatedStore) -> Row:
    """Batch norm of all processes in a group of one (NCCL on a GPU) against the plain one."""
    from torch import distributed

    from synapseclr.training.batch_norm import synchronise_batch_norm

    model = sizes.pretraining().model.build(0).to(sizes.device).train()
    size = sizes.final_img_size
    image = torch.randn(4, 1, size, size, size, device=sizes.device)
    mask = torch.ones(4, 3, size, size, size, dtype=torch.bool, device=sizes.device)
    with exact_convolutions():
        plain = model(image, mask)["encoder.fc"]
        backend = "nccl" if sizes.on_gpu else "gloo"
        with tempfile.TemporaryDirectory() as folder:
            distributed.init_process_group(backend, init_method=f"file://{folder}/meet", rank=0, world_size=1)
            try:
                synchronised = synchronise_batch_norm(model)(image, mask)["encoder.fc"]
                total = torch.ones(1, device=sizes.device)
                distributed.all_reduce(total)
            finally:
                distributed.destroy_process_group()
    error = difference(synchronised, plain)
    return {"case": f"batch norm of all processes, {backend}", "difference": error, "holds": error < FORWARD_TOLERANCE}


def _resumed(sizes: Sizes, store: RepeatedStore) -> Row:
    """Train two epochs at once, and one with the second continued."""
    config = sizes.trained(epochs=2)

    def stop_after_first(epoch: int, _: dict[str, float]) -> None:
        if epoch == 0:
            raise StoppedError

    with tempfile.TemporaryDirectory() as folder:
        resumed = config.model_copy(update={"resume": True})
        with suppress(StoppedError):
            fit(store, resumed, folder, report=stop_after_first)
        continued = fit(store, resumed, folder).weights.build().state_dict()
    with tempfile.TemporaryDirectory() as folder:
        whole = fit(store, config, folder).weights.build().state_dict()
    error = max(difference(continued[name], whole[name]) for name in whole)
    # cuDNN may choose other algorithms in the second process's life: equal up to rounding is what is asked for.
    return {"case": "continued against uninterrupted", "difference": error, "holds": error < GRADIENT_TOLERANCE}


def view_times(sizes: Sizes, _: RepeatedStore) -> Iterator[Row]:
    """Milliseconds and host synchronisations of two views of a batch."""
    config = sizes.pretraining().augmentation
    chunks = random_chunks(sizes, sizes.batch).to(sizes.device)
    repeats = 20 if sizes.on_gpu else 1
    for fidelity in ("corrected", "published"):
        for mode in ("coupled", "decoupled"):
            augmenter = Augmenter(config.replaced(fidelity=fidelity, batch_mode=mode))
            generator = torch.Generator().manual_seed(0)
            for case, call in _calls(augmenter, chunks, generator).items():
                yield {
                    "case": f"{fidelity}, {mode}: {case}, batch {len(chunks)}",
                    "milliseconds": milliseconds(call, sizes, repeats),
                    "host_synchronisations": synchronisations(call, sizes),
                }


def _calls(augmenter: Augmenter, chunks: torch.Tensor, generator: torch.Generator) -> dict[str, Callable[[], object]]:
    prepared = augmenter.prepare(chunks)
    calls: dict[str, Callable[[], object]] = {"one view": lambda: augmenter(prepared, generator)}
    if not isinstance(prepared, torch.Tensor):
        calls["preparation"] = lambda: augmenter.prepare(chunks)
    return calls


def synchronisations(call: Callable[[], object], sizes: Sizes) -> int | None:
    """Times that a call makes the host wait for the GPU; None on a CPU."""
    if not sizes.on_gpu:
        call()
        return None
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        return sum("synchroniz" in str(each.message) for each in caught)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def ceiling(sizes: Sizes, _: RepeatedStore) -> Iterator[Row]:
    """A large bf16 matrix product, the most that the device reaches: the best of some repeats."""
    size, repeats = (8192, 20) if sizes.on_gpu else (256, 2)
    a, b = (torch.randn(size, size, device=sizes.device, dtype=torch.bfloat16) for _ in range(2))
    best = min(milliseconds(lambda: a @ b, sizes, 1) for _ in range(repeats))
    yield {"case": f"bf16 matrix product of {size}", "tflops": 2 * size**3 / (best / 1000) / 1e12}


def training(sizes: Sizes, store: RepeatedStore) -> Iterator[Row]:
    """The published configuration by precision."""
    peak = next(ceiling(sizes, store))["tflops"]
    for name, changes in PRECISIONS.items():
        if not sizes.on_gpu and changes.get("compile"):
            continue
        rows = run_engine(store, sizes.trained(epochs=4, **changes), lambda: None)
        row: Row = {"case": name, "synapses_per_second": median(rows, "synapses_per_second")}
        row["tflops"] = median(rows, "tflops_per_second")
        row["share_of_ceiling"] = row["tflops"] / peak
        row |= {part["case"].split(": ")[1].split(",")[0]: round(part["ratio"], 4) for part in breakdown(name, rows)}
        if sizes.on_gpu:
            row["gpu_memory_gb"] = median(rows, "gpu_memory_gb")
        yield row


def loader(sizes: Sizes, store: RepeatedStore) -> Iterator[Row]:
    """Synapses per second that the loader delivers when nothing waits for it."""
    from synapseclr.training.data import ChunkDataModule

    for workers in dict.fromkeys((0, sizes.workers)):
        config = sizes.trained(epochs=2).model_copy(update={"num_workers": workers})
        batches = iter(ChunkDataModule(store, config, np.array([], dtype=np.int64)).train_dataloader())
        next(batches)
        start, n = time.perf_counter(), 0
        for _ in batches:
            n += config.batch_size
        seconds = time.perf_counter() - start
        rate = n / seconds if n else None
        yield {"case": f"{workers} workers", "synapses_per_second": rate}


def embedding(sizes: Sizes, store: RepeatedStore) -> Iterator[Row]:
    """Embedding, with one pose as published, and with eight."""
    config = sizes.pretraining()
    model = config.model.build(0)
    for n_rotations in (1, 8):
        given = EmbeddingConfig(
            batch_size=sizes.batch, device=sizes.device.type, n_rotations=n_rotations, chunk_cache_mb=0
        )
        embed_store(model, RepeatedStore(store.url), config.augmentation, given)  # warms up
        start = time.perf_counter()
        embed_store(model, store, config.augmentation, given)
        yield {"case": f"{n_rotations} poses", "synapses_per_second": len(store) / (time.perf_counter() - start)}


PARTS: dict[str, Callable[[Sizes, RepeatedStore], Iterator[Row]]] = {
    "view parity": view_parity,
    "encoder parity": encoder_parity,
    "ceiling": ceiling,
    "augmentation": view_times,
    "training": training,
    "paths": gpu_paths,
    "loader": loader,
    "embedding": embedding,
}


def run_part(part: Callable[[Sizes, RepeatedStore], Iterator[Row]], sizes: Sizes, store: RepeatedStore) -> Row:
    """Rows of a part, those before a failure too, and the failure."""
    rows: list[Row] = []
    start = time.perf_counter()
    result: Row = {"rows": rows}
    try:
        for row in part(sizes, store):
            rows.append(row)
            print("  ", json.dumps(row), flush=True)
    except Exception as error:
        logging.getLogger(__name__).exception("This part failed.")
        result["error"] = f"{type(error).__name__}: {error}"[:1000]
    return result | {"seconds": round(time.perf_counter() - start, 1)}


def machine_of(sizes: Sizes) -> Row:
    """The machine and the versions that count."""
    machine: Row = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": sizes.device.type,
        "workers": sizes.workers,
    }
    if sizes.on_gpu:
        machine |= {"gpu": torch.cuda.get_device_name(), "cudnn": torch.backends.cudnn.version()}
    return machine


def main() -> None:
    """Run the parts and write the result after each; ends with 1 if one failed or a comparison did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds after which no further part begins")
    parser.add_argument("--workers", type=int, help="processes that read; by default all cores but two")
    parser.add_argument("--result", type=Path, default=RESULT)
    given = parser.parse_args()
    on_gpu = given.device == "cuda"
    workers = (max(1, (os.cpu_count() or 2) - 2) if on_gpu else 0) if given.workers is None else given.workers
    sizes = Sizes(device=torch.device(given.device), workers=workers, **(GPU if on_gpu else TINY))
    start, parts = time.perf_counter(), {}
    given.result.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        times = max(1, sizes.steps * sizes.batch // sizes.n_chunks)
        store = make_store(folder, sizes.n_chunks, sizes.chunk_vx, 5.0, times)
        for name in given.parts:
            print(name, flush=True)
            left = given.limit - (time.perf_counter() - start)
            parts[name] = run_part(PARTS[name], sizes, store) if left > 0 else {"rows": [], "error": "no time was left"}
            given.result.write_text(json.dumps({"machine": machine_of(sizes), "parts": parts}, indent=2) + "\n")
    failed = [name for name, part in parts.items() if "error" in part]
    print(f"{given.result}: {len(parts) - len(failed)} of {len(parts)} parts ran", flush=True)
    rows = [(name, row) for name, part in parts.items() for row in part["rows"]]
    failed += [f"{name}: {row['case']}" for name, row in rows if not row.get("holds", True)]
    if failed:
        raise SystemExit("Failed: " + "; ".join(failed))


if __name__ == "__main__":
    main()
