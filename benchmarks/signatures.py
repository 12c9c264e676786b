"""What statistics and what a network read off each signature of the simulation: ``python benchmarks/signatures.py``.

Volumes of the demo's size are simulated with each ``simulation.signature`` and cut in memory. On the test volume, cell
types are read off handcrafted statistics by the project's probes on folds split by neurite (the best of linear probe,
nearest neighbours and Gaussian process), and off each statistic alone, without a fit. A small 3D network is trained
with the true types of three other volumes and applied to the test volume; so it has about 1,700 labels more than the
probes, and answers what can be seen, not what a representation learns.

One thread. Volumes are kept in FOLDER. Writes ``benchmarks/results/signatures.json``: ROC AUC; ``ours`` is the network,
``baseline`` what the case names.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

RESULT = Path(__file__).parent / "results/signatures.json"
SCRATCH = Path(tempfile.gettempdir()) / "synapseclr_benchmarks/signatures"
SIGNATURES = ("darkness", "texture")
TRAINING_SEEDS, TEST_SEED = (302, 303, 304), 301
SIDES = ("pre", "post")
HALF_CHUNK_VX = np.array([40, 40, 16])
STORED, PITCH_NM, VIEW = 40, 20.0, 28
BATCH, LEARNING_RATE, WEIGHT_DECAY = 48, 3e-3, 1e-2
N_POSES = 8
FOLD_SEEDS = (0, 1, 2)


def load_volume(folder: Path, signature: str, seed: int) -> tuple[np.ndarray, pd.DataFrame, tuple[float, ...]]:
    """Chunks uint8 (n, 2, x, y, z), their truth, and the voxel size in nm, from FOLDER or simulated."""
    from synapseclr.simulation import SimulationConfig, simulate

    config = SimulationConfig(seed=seed, signature=signature, defect_fraction=0.0)
    chunks, table = (folder / f"{signature}_{seed}.{ending}" for ending in ("npy", "parquet"))
    if not table.exists():
        print(f"simulate {signature}, seed {seed}", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        chunks_ncxyz, truth = cut(simulate(config))
        np.save(chunks, chunks_ncxyz)
        truth.to_parquet(table)
    return np.load(chunks), pd.read_parquet(table), config.voxel_size_nm


def cut(volume: Any) -> tuple[np.ndarray, pd.DataFrame]:
    """Chunks of the synapses that lie deep enough in a volume, coded as preprocessing does it, and their truth."""
    from synapseclr.volumes.voxel_loops import nearest_labelled

    table = volume.synapse_table.merge(volume.truth_table, left_on="id", right_on="synapse_id")
    centres_n3 = table[[f"ctr_pos_{axis}_vx" for axis in "xyz"]].to_numpy()
    inside_n = ((centres_n3 >= HALF_CHUNK_VX) & (centres_n3 + HALF_CHUNK_VX <= volume.em_xyz.shape)).all(axis=1)
    table, size_nm = table[inside_n].reset_index(drop=True), np.array(volume.voxel_size_nm)
    chunks = []
    for row, centre in zip(table.itertuples(), centres_n3[inside_n], strict=True):
        box = tuple(slice(c - h, c + h) for c, h in zip(centre, HALF_CHUNK_VX, strict=True))
        segments, clefts = volume.segmentation_xyz[box], volume.cleft_xyz[box]
        labels, numbers_xyz = np.unique(clefts, return_inverse=True)
        numbers_xyz = numbers_xyz.reshape(clefts.shape)
        origin, extent = np.zeros(3, np.int64), np.array(clefts.shape)
        number = nearest_labelled(numbers_xyz, labels > 0, origin, extent, size_nm)[2]
        code = (segments == row.pre_root_id) + np.uint8(3) * (segments == row.post_root_id)
        code[numbers_xyz == number] = 2
        chunks.append(np.stack([volume.em_xyz[box], code]))
    return np.stack(chunks), table


def score_probe(features_nf: np.ndarray, table: pd.DataFrame, side: str) -> float:
    """ROC AUC of a cell type, mean over folds: the best of linear probe, nearest neighbours and Gaussian process."""
    from synapseclr.analysis.config import ImputationConfig
    from synapseclr.analysis.gaussian_processes.kernels import kernel_inputs
    from synapseclr.analysis.imputation.ensemble import fit_member
    from synapseclr.analysis.traits import fold_score, knn_probe, linear_probe, split_trait, trait_named
    from synapseclr.analysis.traits.probes import fold_coordinates

    config = ImputationConfig()
    inputs_nr = kernel_inputs(features_nf, config.gaussian_processes.n_inputs)
    scores = []
    for seed in FOLD_SEEDS:
        trait = trait_named(f"{side}_cell_type")
        split = split_trait(table, trait, config.n_folds, config.min_annotated, seed)
        for fold in split.folds:
            train, test = (split.rows_a[part] for part in fold)
            target_a, target_b = (split.target_a[part] for part in fold)
            train_ar, test_br = fold_coordinates(features_nf[train], features_nf[test])
            member = fit_member(inputs_nr, split, fold, config.gaussian_processes, seed)
            predicted = (
                linear_probe(train_ar, target_a, test_br, True, split.groups_a[fold[0]], config.penalties),
                knn_probe(train_ar, target_a, test_br, config.n_neighbours),
                member.mean_on[0, test],
            )
            scores.append([fold_score(trait.metric, target_b, predicted_b) for predicted_b in predicted])
    return float(np.mean(scores, axis=0).max())


def score_statistics(chunks_ncxyz: np.ndarray, table: pd.DataFrame, size_nm: tuple[float, ...]) -> dict[str, Any]:
    """ROC AUC by side and kind of statistic; the best single one with its name."""
    from sklearn.metrics import roc_auc_score

    from synapseclr.analysis.handcrafted import MASK_STATISTIC_NAMES, STATISTIC_NAMES, chunk_statistics, mask_statistics

    masks_nf = np.stack([mask_statistics(chunk_cxyz, size_nm) for chunk_cxyz in chunks_ncxyz])
    image_nf = np.stack([chunk_statistics(chunk_cxyz) for chunk_cxyz in chunks_ncxyz])
    both_nf, names = np.concatenate([masks_nf, image_nf], axis=1), (*MASK_STATISTIC_NAMES, *STATISTIC_NAMES)
    scores: dict[str, Any] = {}
    for side in SIDES:
        target_n = table[f"{side}_cell_type"].to_numpy()
        alone_f = [roc_auc_score(target_n, column_n) for column_n in both_nf.T]
        alone_f = np.maximum(alone_f, 1 - np.array(alone_f))  # direction chosen in hindsight, in the statistic's favour
        best = int(alone_f.argmax())
        scores[side] = {
            f"best statistic ({names[best]})": float(alone_f[best]),
            "all mask statistics": score_probe(masks_nf, table, side),
            "image statistics": score_probe(image_nf, table, side),
            "mask and image statistics": score_probe(both_nf, table, side),
        }
    return scores


def resample(chunks_ncxyz: np.ndarray, size_nm: tuple[float, ...]) -> Any:
    """Intensity and the three masks on a cubic grid around the centre, uint8 (n, 4, STORED, STORED, STORED)."""
    import torch
    from torch.nn import functional

    extent_nm = 2 * HALF_CHUNK_VX * np.array(size_nm)
    axes = [torch.linspace(-0.5, 0.5, STORED) * 2 * (STORED - 1) * PITCH_NM / extent for extent in extent_nm]
    # grid_sample wants the last axis first.
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1).float()
    parts = []
    for start in range(0, len(chunks_ncxyz), 32):
        part = torch.from_numpy(chunks_ncxyz[start : start + 32])
        code = part[:, 1]
        channels = torch.stack([part[:, 0].float()] + [255.0 * (code == k) for k in (1, 2, 3)], dim=1)
        where = grid.expand(len(part), *grid.shape)
        parts.append(functional.grid_sample(channels, where, align_corners=False).round().to(torch.uint8))
    return torch.cat(parts)


def make_views(stored: Any, rotations_b33: Any, shifts_b3: Any) -> Any:
    """Turned views: intensity on the presynaptic and on the postsynaptic side, and the cleft, float (b, 3, v, v, v)."""
    import torch
    from torch.nn import functional

    axis = torch.linspace(-1, 1, VIEW) * (VIEW - 1) / (STORED - 1)
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)
    grid = (points @ rotations_b33 + shifts_b3[:, None]).reshape(-1, VIEW, VIEW, VIEW, 3)
    sampled = functional.grid_sample(stored.float(), grid, align_corners=True) / 255.0
    intensity = (sampled[:, 0] - 0.58) / 0.14
    return torch.stack([intensity * sampled[:, 1], intensity * sampled[:, 3], 2 * sampled[:, 2]], dim=1)


def draw_rotations(n: int, rng: np.random.Generator) -> Any:
    """Rotations and reflections, uniform, float (n, 3, 3)."""
    import torch

    matrices, triangular = np.linalg.qr(rng.normal(size=(n, 3, 3)))
    signs = np.sign(np.diagonal(triangular, axis1=1, axis2=2))
    return torch.from_numpy(matrices * signs[:, None]).float()


def make_network() -> Any:
    """Five convolutions to a 7^3 map, mean and maximum over it, one logit per cell type."""
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers: list[nn.Module] = []
            for n_in, n_out, stride in ((3, 12, 1), (12, 24, 2), (24, 32, 1), (32, 48, 2), (48, 64, 1)):
                convolution = nn.Conv3d(n_in, n_out, 3, stride, padding=1, bias=False)
                layers += [convolution, nn.BatchNorm3d(n_out), nn.ReLU(inplace=True)]
            self.body, self.head = nn.Sequential(*layers), nn.Linear(128, len(SIDES))

        def forward(self, views: torch.Tensor) -> torch.Tensor:
            body = self.body(views)
            return self.head(torch.cat([body.mean(dim=(2, 3, 4)), body.amax(dim=(2, 3, 4))], dim=1))

    return Network()


def score_network(training: list[Any], test: Any, truth: list[pd.DataFrame], seconds: float) -> dict[str, float]:
    """Train with the types of all tables but the last, apply to the last: ROC AUC by side, and the steps made."""
    import torch
    from sklearn.metrics import roc_auc_score

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    columns = [f"{side}_cell_type" for side in SIDES]
    stored, labels_ns = torch.cat(training), pd.concat(truth[:-1])[columns].to_numpy(np.float32)
    network = make_network()
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    start, n_steps = time.process_time(), 0
    while (share := (time.process_time() - start) / seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * min(1, share / 0.05 + 0.02) * 0.5 * (1 + np.cos(np.pi * share))
        batch = rng.integers(0, len(stored), BATCH)
        shifts_b3 = torch.from_numpy(rng.uniform(-0.06, 0.06, (BATCH, 3))).float()
        views = make_views(stored[batch], draw_rotations(BATCH, rng), shifts_b3)
        tone = torch.from_numpy(rng.normal(0, 0.2, (BATCH, 1, 1, 1, 1))).float()
        views[:, :2] *= 1 + tone
        targets = torch.from_numpy(labels_ns[batch])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(views), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        n_steps += 1
    network.eval()
    logits_ns = np.zeros((len(test), len(SIDES)))
    with torch.no_grad():
        for _ in range(N_POSES):
            rotation = draw_rotations(1, rng)
            for first in range(0, len(test), BATCH):
                part = test[first : first + BATCH]
                views = make_views(part, rotation.expand(len(part), 3, 3), torch.zeros(len(part), 3))
                logits_ns[first : first + BATCH] += network(views).numpy()
    scores = {side: float(roc_auc_score(truth[-1][columns[k]], logits_ns[:, k])) for k, side in enumerate(SIDES)}
    return scores | {"steps": n_steps}


def main() -> None:
    """Measure every signature, write and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=SCRATCH, help="where simulated volumes are kept")
    parser.add_argument("--seconds", type=float, default=240.0, help="CPU time to train a network")
    parser.add_argument("--signatures", nargs="+", choices=SIGNATURES, default=list(SIGNATURES))
    given = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    data: dict[str, Any] = {}
    for signature in given.signatures:
        stored, truth = [], []
        for seed in (*TRAINING_SEEDS, TEST_SEED):
            chunks_ncxyz, table, size_nm = load_volume(given.folder, signature, seed)
            stored.append(resample(chunks_ncxyz, size_nm))
            truth.append(table)
        statistics = score_statistics(chunks_ncxyz, table, size_nm)  # of the last, the test volume
        network = score_network(stored[:-1], stored[-1], truth, given.seconds)
        data[signature] = {
            "n_training": int(sum(len(part) for part in stored[:-1])),
            "n_test": len(stored[-1]),
            "training_steps": network["steps"],
        }
        for side in SIDES:
            for name, score in statistics[side].items():
                case = f"{signature}: {side}synaptic cell type, supervised network against {name}"
                ratio = network[side] / score
                rows.append({"case": case, "ours": network[side], "baseline": score, "unit": "ROC AUC", "ratio": ratio})
                print(f"{case}: {network[side]:.3f} against {score:.3f}", flush=True)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": 1,
        "torch": torch.__version__,
    }
    data |= {"training_seeds": TRAINING_SEEDS, "test_seed": TEST_SEED, "training_seconds": given.seconds}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"machine": machine, "data": data, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
