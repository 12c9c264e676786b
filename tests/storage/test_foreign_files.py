"""Files that declare more than they hold: refused in a sentence, before memory is taken."""

import io
import json
import zipfile

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from kedro.io import DatasetError
from small_volumes import make_table, stream, write_image, write_volumes

from synapseclr.datasets import AnnDataZarrDataset
from synapseclr.errors import CheckpointError, VolumeError
from synapseclr.models import EncoderWeights, ModelConfig
from synapseclr.models.foreign_checkpoints import read_checkpoint
from synapseclr.storage.foreign_files import check_zip_content, parse_json
from synapseclr.volumes import ChunkStore, OmeZarrLayer, PrecomputedLayer, write_chunk_store
from synapseclr.volumes.imported_chunks import read_query_chunks

NESTED = "[" * 200_000 + "]" * 200_000


def declare(group, path, **changes):
    """Change what an array says of itself, in its own description and in the group's copy of it."""
    file = group / path / "zarr.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    whole = json.loads((group / "zarr.json").read_text())
    if path in (whole.get("consolidated_metadata") or {}).get("metadata", {}):
        whole["consolidated_metadata"]["metadata"][path] |= changes
        (group / "zarr.json").write_text(json.dumps(whole))


def test_a_query_of_terabytes_without_data_is_refused(tmp_path):
    zarr.create_array(str(tmp_path / "q.zarr"), shape=(2, 8, 8, 8), chunks=(2, 8, 8, 8), dtype="uint8")
    description = json.loads((tmp_path / "q.zarr/zarr.json").read_text())
    (tmp_path / "q.zarr/zarr.json").write_text(json.dumps(description | {"shape": [2, 20_000, 20_000, 20_000]}))
    with pytest.raises(VolumeError, match=r"declares uint8 \(2, 20000, 20000, 20000\), 16 TB, but .* are there"):
        read_query_chunks(str(tmp_path / "q.zarr"))
    (tmp_path / "q.zarr/zarr.json").write_text(NESTED)
    with pytest.raises(VolumeError, match="nor a Zarr array that can be read"):
        read_query_chunks(str(tmp_path / "q.zarr"))


@pytest.fixture
def matrix(tmp_path):
    """A small annotated matrix, as somebody else would have written it."""
    obs = pd.DataFrame({"trait": [0.0, 1.0, 2.0], "kind": pd.Categorical(["a", "b", "a"])}, index=["7", "8", "9"])
    data = anndata.AnnData(np.ones((3, 4), np.float32), obs=obs, obsm={"layer": np.ones((3, 2), np.float32)})
    with anndata.settings.override(zarr_write_format=3):
        data.write_zarr(tmp_path / "a.zarr")
    assert AnnDataZarrDataset(filepath=str(tmp_path / "a.zarr")).load().obs["kind"].tolist() == ["a", "b", "a"]
    return tmp_path / "a.zarr"


@pytest.mark.parametrize(
    ("path", "shape", "message"),
    [
        ("X", [3, 10**10], r"a.zarr/X declares float32 .* are there"),
        ("X", [10**10, 4], r"a.zarr/X declares float32 .* are there"),
        ("X", [5, 4], r"a.zarr/X has 5 rows, but the table obs has 3"),
        ("obsm/layer", [3, 10**10], "a.zarr/obsm/layer declares"),
        ("obsm/layer", [4, 2], "a.zarr/obsm/layer has 4 rows, but the table obs has 3"),
        ("obs/trait", [10**10], "a.zarr/obs/trait has 10000000000 rows, but the table obs has 3"),
        ("obs/kind/codes", [10**10], "a.zarr/obs/kind/codes has 10000000000 rows"),
        ("obs/_index", [10**10], "a.zarr/obs/_index declares"),
    ],
)
def test_a_matrix_whose_arrays_are_not_of_its_tables_size_is_refused(matrix, path, shape, message):
    declare(matrix, path, shape=shape)
    with pytest.raises(DatasetError, match=message):
        AnnDataZarrDataset(filepath=str(matrix)).load()


@pytest.mark.parametrize(
    ("path", "shape", "message"),
    [
        ("chunks", [20, 2, 100_000, 100_000, 100_000], "more than the 2147483647 bytes that its codec can hold"),
        ("chunks", [10**12, 2, 24, 24, 12], r"declares chunks of the shape .* shards"),
        ("synapse_id", [10**12], r"The array synapse_id of the chunk store .* is damaged"),
    ],
)
def test_a_chunk_store_with_an_absurd_description_is_refused(tmp_path, path, shape, message):
    write_volumes(f"file://{tmp_path}")
    write_chunk_store(stream(f"file://{tmp_path}", make_table()), str(tmp_path / "chunks.zarr"))
    declare(tmp_path / "chunks.zarr", path, shape=shape)
    with pytest.raises(VolumeError, match=message):
        ChunkStore(str(tmp_path / "chunks.zarr")).read([0])


def test_a_chunk_store_whose_description_is_nested_without_end_is_refused(tmp_path):
    (tmp_path / "zarr.json").write_text(NESTED)
    with pytest.raises(VolumeError, match="There is no chunk store at"):
        len(ChunkStore(str(tmp_path)))


def test_volumes_with_absurd_storage_blocks_are_refused(tmp_path):
    write_volumes(f"file://{tmp_path}")
    info = json.loads((tmp_path / "em/info").read_text())
    info["scales"][0] |= {"size": [10**6] * 3, "chunk_sizes": [[10**6] * 3]}
    (tmp_path / "em/info").write_text(json.dumps(info))
    with pytest.raises(VolumeError, match=r"EM volume at .* declares storage blocks of .* more than the 4 GiB"):
        PrecomputedLayer(f"file://{tmp_path}/em", "EM volume").at_resolution((16, 16, 40))
    write_image(str(tmp_path / "v"), np.ones((8, 8, 8), np.uint8), "0.5")
    grid = {"name": "regular", "configuration": {"chunk_shape": [10**6] * 3}}
    declare(tmp_path / "v", "full", shape=[10**6] * 3, chunk_grid=grid)
    with pytest.raises(VolumeError, match=r"volume at .* declares storage blocks of .* more than the 4 GiB"):
        OmeZarrLayer(f"file://{tmp_path}/v").at_resolution((16, 16, 40))


def test_a_tensor_that_repeats_one_number_is_refused(tmp_path):
    torch.save({"weight": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "w.pt")
    assert (tmp_path / "w.pt").stat().st_size < 4000
    with pytest.raises(CheckpointError, match=r"'weight' declares \(1000000, 1000000\), 4000000000000 bytes"):
        read_checkpoint(tmp_path / "w.pt")
    torch.save({"weight": torch.arange(4.0).reshape(2, 2).T, "half": torch.arange(9.0)[2:5]}, tmp_path / "views.pt")
    assert read_checkpoint(tmp_path / "views.pt").tensors["half"].tolist() == [2.0, 3.0, 4.0]


def test_a_sparse_tensor_is_refused(tmp_path):
    torch.save({"weight": torch.eye(3).to_sparse()}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"w.pt: 'weight' is torch.sparse_coo"):
        read_checkpoint(tmp_path / "w.pt")


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data/0", bytes(10**7))
    with pytest.raises(VolumeError, match=r"has .* kB and declares contents of 10 MB"):
        check_zip_content(content.getvalue(), "w.pt")
    (tmp_path / "w.pt").write_bytes(content.getvalue())
    with pytest.raises(CheckpointError, match="declares contents of 10 MB"):
        read_checkpoint(tmp_path / "w.pt")
    torch.save({"weight": torch.zeros(10**5)}, tmp_path / "good.pt")
    check_zip_content((tmp_path / "good.pt").read_bytes(), "good.pt")
    check_zip_content(b"PK no archive", "other")


def test_json_that_is_nested_without_end_is_an_error_like_any_other():
    with pytest.raises(json.JSONDecodeError, match="nested too deeply"):
        parse_json(NESTED)
    assert parse_json(b'{"a": [1]}') == {"a": [1]}


def test_weights_whose_provenance_is_nested_without_end_are_refused():
    from safetensors.torch import save

    model = ModelConfig(width_factor=0.125, projection_dims=(16, 8))
    header = {"format": "synapseclr-1", "model": model.model_dump_json(), "provenance": NESTED}
    with pytest.raises(CheckpointError, match=r"has a header that this version cannot read \(nested too deeply"):
        EncoderWeights.from_bytes(save({"weight": torch.zeros(1)}, header), "w.safetensors")
