"""The example of docs/data.md for objects that are no synapses: mitochondria whose masks have a code of their own."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from synapseclr.augmentation import AugmentationConfig, Augmenter
from synapseclr.datasets import ChunkSourceDataset
from synapseclr.volumes import (
    ChunkStore,
    PreprocessingConfig,
    check_synapse_table,
    import_chunks,
    summarise,
    tabulate_chunks,
    write_chunk_store,
)

EXAMPLE = (Path(__file__).parents[2] / "docs/data.md").read_text().split("### Not only synapses")[1]
SIZE_VX = (48, 48, 24)


def test_mitochondria_are_imported_tabulated_and_augmented(tmp_path):
    blocks = EXAMPLE.split("```")
    entry = yaml.safe_load(blocks[1].removeprefix("yaml"))["chunk_source"]
    table = check_synapse_table(pd.read_csv(io.StringIO(blocks[3].strip())))
    rng = np.random.default_rng(0)
    away = np.indices(SIZE_VX).transpose(1, 2, 3, 0) - np.array(SIZE_VX) // 2
    mask_xyz = np.where((away**2).sum(axis=-1) < 64, 7, 0).astype(np.uint8)
    for synapse_id in table["id"]:
        np.save(tmp_path / f"{synapse_id}.npy", rng.integers(1, 255, SIZE_VX).astype(np.uint8))
        np.save(tmp_path / f"{synapse_id}_mask.npy", mask_xyz)
    kept = {name: value for name, value in entry.items() if name not in ("type", "filepath")}
    source = ChunkSourceDataset(filepath=str(tmp_path), **kept).load()
    config = PreprocessingConfig(voxel_size_nm=(16, 16, 40), chunk_size_vx=SIZE_VX)
    write_chunk_store(import_chunks(source, table, config), str(tmp_path / "s.zarr"))
    store = ChunkStore(str(tmp_path / "s.zarr"))
    np.testing.assert_array_equal(store.read([0])[0, 1] == 2, mask_xyz == 7)
    metadata, statistics = tabulate_chunks(store, table, config.position_unit_nm)
    assert metadata["synaptic_cleft_volume"].gt(0).all()
    assert metadata["is_pre_missing"].all()
    assert summarise(store, table, metadata, statistics, [])["n_chunks"] == len(table) == 1
    augmentation = AugmentationConfig(axial_to_sagittal_spacing=2.5, final_crop_size=40, final_img_size=40)
    view = Augmenter(augmentation)(torch.from_numpy(store.read([0])), torch.Generator().manual_seed(0))
    assert torch.isfinite(view.intensity_bcxyz).all()
    assert view.intensity_bcxyz.std() > 0
