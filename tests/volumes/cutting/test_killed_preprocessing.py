"""SIGKILL at three random moments, each followed by the same command: the store is that of an uninterrupted run."""

import importlib.util
import multiprocessing
import random
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from synapseclr.volumes import PreprocessingConfig, VolumeLayer, cut_chunks, write_chunk_store, write_precomputed

SCRIPT = Path(__file__).parents[3] / "scripts/kill_preprocessing.py"


def load_script():
    specification = importlib.util.spec_from_file_location("kill_preprocessing", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    sys.modules["kill_preprocessing"] = module  # its dataclasses look for it
    specification.loader.exec_module(module)
    return module


def test_three_kills_leave_the_store_of_an_uninterrupted_run(tmp_path):
    script = load_script()
    rng = np.random.default_rng(0)
    shape, n = (128, 128, 64), 80
    ids = np.zeros(shape, np.uint64)
    ids[::8, ::8, ::4] = np.arange(1, 1 + 16 * 16 * 16).reshape(16, 16, 16)
    em = rng.integers(1, 255, shape).astype(np.uint8)
    for name, array in (("em", em), ("segmentation", ids), ("clefts", ids)):
        kind = "image" if name == "em" else "segmentation"
        write_precomputed(array, f"file://{tmp_path / name}", (16, 16, 40), kind, (32, 32, 16))
    table = pd.DataFrame({"id": np.arange(n), "pre_root_id": 1, "post_root_id": 2})
    table[["ctr_pos_x_vx", "ctr_pos_y_vx", "ctr_pos_z_vx"]] = rng.integers(0, shape, (n, 3)).astype(float)
    table.to_parquet(tmp_path / "table.parquet")

    layers = (VolumeLayer(f"file://{tmp_path / name}") for name in ("em", "segmentation", "clefts"))
    config = PreprocessingConfig(voxel_size_nm=(16, 16, 40), chunk_size_vx=(48, 48, 24), synapses_per_shard=2)
    stream = cut_chunks(*layers, table, config)
    write_chunk_store(stream, str(tmp_path / "whole.zarr"))
    killed = tmp_path / "killed.zarr"
    server = multiprocessing.get_context("forkserver")  # starts processes in no time, with the imports done
    server.set_forkserver_preload(["synapseclr.volumes.cutting.masks", "zarr", "cloudvolume"])

    def start():
        process = server.Process(target=write_chunk_store, args=(stream, str(killed)))
        process.start()
        return process

    generator = random.Random(3)
    moments = [script.Moment(k, generator.uniform(0, 0.03)) for k in sorted(generator.sample(range(1, n // 2), 2))]
    moments.append(script.Moment(n // 2, generator.uniform(0, 0.02)))  # while the store is completed
    happened = []
    for moment in moments:
        process = start()
        happened.append(script.kill_at(moment, killed, process.is_alive, process.kill))
        process.join(100)
    assert sum("killed with" in what for what in happened) >= 2, happened
    last = start()
    last.join(100)
    assert last.exitcode == 0
    assert script.n_recorded(killed) == n // 2
    assert script.differences(killed, tmp_path / "whole.zarr") == []
