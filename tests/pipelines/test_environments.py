"""The environments of public volumes, each run on a small copy that is laid out as the volume is."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from loopback_volumes import (
    Tissue,
    as_buhmann,
    as_cave,
    as_flyem,
    as_h01,
    as_neuprint,
    as_sjcabs,
    write_cremi,
    write_layer,
)

from synapseclr.volumes import ChunkStore

PROJECT = Path(__file__).resolve().parents[2]
FLY = {"em": [(8, 8, 8), (16, 16, 16)], "segmentation": [(8, 8, 8)]}
FAFB = {"em": [(4, 4, 40), (8, 8, 40), (16, 16, 40)], "segmentation": [(16, 16, 40)]}


@dataclass(frozen=True)
class Release:
    """How a public volume is laid out: voxel sizes (nm) by layer, encoding of the EM, table, and its file."""

    layers: dict = field(default_factory=dict)
    em_encoding: str = "raw"
    as_table: object = None
    file: str = "synapses.parquet"
    polyadic: bool = True


RELEASES = {
    "minnie65": Release(
        {"em": [(8, 8, 40), (16, 16, 40)], "segmentation": [(8, 8, 40)], "clefts": [(8, 8, 40)]},
        "jpeg",
        as_cave,
        polyadic=False,
    ),
    "h01": Release(
        {"em": [(4, 4, 33), (8, 8, 33)], "segmentation": [(8, 8, 33)], "clefts": [(8, 8, 33)]},
        "jpeg",
        as_h01,
        polyadic=False,
    ),
    "flywire": Release(FAFB, "jpeg", as_sjcabs),
    "fafb": Release(FAFB, "jpeg", as_buhmann),
    "hemibrain": Release(FLY, "jpeg", as_neuprint, "synapses.feather"),
    "manc": Release(FLY, "jpeg", as_neuprint, "synapses.feather"),
    "malecns": Release(FLY, "jpeg", as_flyem, "synapses.feather"),
    "cremi": Release(),
}


VOXEL_SIZES_NM = {
    "minnie65": (8, 8, 40),
    "h01": (8, 8, 33),
    "flywire": (16, 16, 40),
    "fafb": (16, 16, 40),
    "hemibrain": (8, 8, 8),
    "manc": (8, 8, 8),
    "malecns": (8, 8, 8),
    "cremi": (4, 4, 40),
}


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Makes the copy of a release, and names what of `sources` points to it; layers laid out alike are shared."""
    made = {}
    drawn = {}

    def copy(name):
        release = RELEASES[name]
        folder = tmp_path_factory.mktemp(name)
        tissue = Tissue(release.polyadic)
        if name == "cremi":
            return {"file": write_cremi(folder / "sample_A.hdf", tissue)}, tissue
        key = json.dumps([release.layers, release.em_encoding, release.polyadic])
        if key not in made:
            for size in {size for sizes in release.layers.values() for size in sizes}:
                if (release.polyadic, size) not in drawn:
                    drawn[release.polyadic, size] = dict(
                        zip(("em", "segmentation", "clefts"), tissue.draw(size), strict=True)
                    )
            made[key] = {
                layer: write_layer(
                    folder,
                    layer,
                    {size: drawn[release.polyadic, size][layer] for size in sizes},
                    release.em_encoding if layer == "em" else "compressed_segmentation",
                )
                for layer, sizes in release.layers.items()
            }
        table = release.as_table(tissue.synapses)
        path = folder / release.file
        (table.to_feather if path.suffix == ".feather" else table.to_parquet)(path)
        return made[key] | {"synapses": str(path)}, tissue

    return copy


@pytest.fixture
def run(monkeypatch):
    """Runs a pipeline in this process."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    monkeypatch.chdir(PROJECT)
    monkeypatch.setenv("SYNAPSECLR_TRACKING", "off")
    bootstrap_project(PROJECT)

    def run(env, pipeline, **parameters):
        with KedroSession.create(PROJECT, env=env, runtime_params=parameters) as session:
            session.run(pipeline_names=[pipeline])

    return run


@pytest.mark.parametrize("name", ["minnie65", "h01", "cremi"])
def test_an_environment_cuts_the_synapses_of_its_release(name, copies, run, tmp_path):
    sources, tissue = copies(name)
    small = {"chunk_size_vx": [2 * round(240 / size) for size in VOXEL_SIZES_NM[name]]}
    run(name, "preprocessing", data_root=str(tmp_path), sources=sources, preprocessing=small)
    store = ChunkStore(str(tmp_path / "02_intermediate/synapse_chunks.zarr"))
    metadata = pd.read_parquet(tmp_path / "03_primary/synapse_metadata.parquet").sort_values("synapse_id")
    expected = tissue.synapses
    if RELEASES[name].as_table in (as_cave, as_buhmann):
        assert metadata["synapse_id"].tolist() == expected["id"].tolist()
    assert metadata["pre_root_id"].tolist() == expected["pre"].tolist()
    assert metadata["post_root_id"].tolist() == expected["post"].tolist()
    assert not metadata["is_pre_missing"].any()
    assert not metadata["is_post_missing"].any()
    assert metadata["synaptic_cleft_volume"].min() > 0
    np.testing.assert_allclose(store.voxel_size_nm, VOXEL_SIZES_NM[name])
