"""Volumes in the codecs that CloudVolume decodes with packages of their own."""

import numpy as np
import pytest
from cloudvolume import CloudVolume

from synapseclr.volumes import PrecomputedLayer

SIZE_NM = (8.0, 8.0, 40.0)
SHAPE = (40, 36, 12)


@pytest.mark.parametrize(
    ("codec", "layer_type", "dtype"),
    [
        ("png", "image", np.uint8),
        ("jpeg", "image", np.uint8),
        ("compresso", "segmentation", np.uint64),
        ("crackle", "segmentation", np.uint64),
        ("fpzip", "image", np.float32),
    ],
)
def test_blocks_of_every_codec_are_decoded(tmp_path, codec, layer_type, dtype):
    rng = np.random.default_rng(0)
    array_xyz = np.kron(rng.integers(1, 200, (5, 4, 3)), np.ones((8, 9, 4))).astype(dtype)
    if layer_type == "segmentation":
        array_xyz += np.uint64(2**60)
    info = CloudVolume.create_new_info(
        num_channels=1,
        layer_type=layer_type,
        data_type=np.dtype(dtype).name,
        encoding=codec,
        resolution=[8, 8, 40],
        voxel_offset=[0, 0, 0],
        volume_size=list(SHAPE),
        chunk_size=[16, 16, 8],
    )
    volume = CloudVolume(f"file://{tmp_path}/layer", info=info, progress=False)
    volume.commit_info()
    volume[:, :, :] = array_xyz[..., None]
    if dtype == np.float32:  # not a type of EM or ids: only the decoder is needed
        np.testing.assert_array_equal(
            CloudVolume(f"file://{tmp_path}/layer", progress=False)[:, :, :][..., 0], array_xyz
        )
        return
    layer = PrecomputedLayer(f"file://{tmp_path}/layer", "volume").at_resolution(SIZE_NM)
    read_xyz = layer.read(np.zeros(3, np.int64), np.array(SHAPE))
    if codec == "jpeg":
        assert np.abs(read_xyz.astype(int) - array_xyz).mean() < 4
    else:
        np.testing.assert_array_equal(read_xyz, array_xyz)
