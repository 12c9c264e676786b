"""Turn a folder with ``volume.npz`` and ``synapses.csv`` into precomputed volumes and tables that the pipelines read.

    python scripts/import_npz_volume.py FOLDER data/fib25/01_raw/imported
    kedro run --env=fib25

``volume.npz`` holds ``em`` (uint8), ``seg`` and ``cleft`` (unsigned integers), all (x, y, z); ``meta.json`` the voxel
size ``voxel_nm``. The FlyEM FIB-25 medulla sample (Parag et al. 2015, doi:10.1371/journal.pone.0125825) comes in this
form.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from synapseclr.volumes import write_precomputed
from synapseclr.volumes.annotations import RAW_COLUMNS

_LAYERS = {"em": ("em", "image"), "seg": ("segmentation", "segmentation"), "cleft": ("clefts", "segmentation")}


def import_volume(source: Path, destination: Path) -> None:
    """Write ``em``, ``segmentation``, ``clefts``, ``synapses.csv`` and an empty ``annotations.csv``."""
    voxel_size_nm = tuple(json.loads((source / "meta.json").read_text())["voxel_nm"])
    destination.mkdir(parents=True, exist_ok=True)
    with np.load(source / "volume.npz") as arrays:
        for key, (name, layer_type) in _LAYERS.items():
            write_precomputed(arrays[key], f"file://{(destination / name).resolve()}", voxel_size_nm, layer_type)
    pd.read_csv(source / "synapses.csv").to_csv(destination / "synapses.csv", index=False)
    pd.DataFrame(columns=RAW_COLUMNS).to_csv(destination / "annotations.csv", index=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder with volume.npz, meta.json and synapses.csv")
    parser.add_argument("destination", type=Path, help="folder for the precomputed volumes and tables")
    arguments = parser.parse_args()
    import_volume(arguments.source, arguments.destination)
    print(f"Wrote {arguments.destination}")
