"""OME-Zarr volumes: the same voxels, placed as the file says, and the same chunks as of precomputed ones."""

import numpy as np
import pytest
import zarr
from small_volumes import UNITS, write_image

from synapseclr.datasets import OmeZarrVolumeDataset
from synapseclr.errors import VolumeError
from synapseclr.volumes import ChunkStore, OmeZarrLayer, cut_chunks, write_chunk_store


def voxels(layer):
    return layer.read(layer.lower_vx, layer.upper_vx - layer.lower_vx)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["zyx", "xyz", "tczyx", "yxz"])
@pytest.mark.parametrize("unit", UNITS)
def test_axes_units_and_both_versions_give_the_same_voxels(tmp_path, version, axes, unit):
    array_xyz = np.random.default_rng(0).integers(0, 2**40, (40, 36, 12)).astype(np.uint64)
    written = write_image(str(tmp_path / "v"), array_xyz, version, axes, unit, channel=2 if "c" in axes else 0)
    layer = written.at_resolution((16, 16, 40))
    np.testing.assert_array_equal(voxels(layer), array_xyz)
    assert layer.block_size_vx.tolist() == [32, 32, 8]
    assert layer.dtype == np.uint64
    assert layer.dtype.isnative
    half = written.at_resolution((32, 32, 80))
    np.testing.assert_array_equal(voxels(half), array_xyz[::2, ::2, ::2])
    assert half.lower_vx.tolist() == [0, 0, 0]


def test_a_translation_places_the_volume_as_an_offset_does(tmp_path):
    array_xyz = np.random.default_rng(0).integers(1, 255, (40, 36, 12)).astype(np.uint8)
    layer = write_image(str(tmp_path / "v"), array_xyz, "0.5", offset_vx=(100, -7, 3)).at_resolution((16, 16, 40))
    assert layer.lower_vx.tolist() == [100, -7, 3]
    box = layer.read(np.array([98, -7, 14]), np.array([4, 2, 3]))
    np.testing.assert_array_equal(box[2:, :, 0], array_xyz[:2, :2, 11])
    assert not box[:2].any()
    assert not box[:, :, 1:].any()


def test_transformations_of_the_whole_image_come_after_those_of_a_scale(tmp_path):
    write_image(str(tmp_path / "v"), np.ones((8, 8, 8), np.uint8), "0.5", offset_vx=(10, 0, 0))
    group = zarr.open_group(str(tmp_path / "v"))
    ome = dict(group.attrs["ome"])
    after = [{"type": "scale", "scale": [0.5, 0.5, 0.5]}, {"type": "translation", "translation": [40, 0, 0]}]
    ome["multiscales"][0]["coordinateTransformations"] = after
    group.attrs["ome"] = ome
    layer = OmeZarrLayer(f"file://{tmp_path}/v").at_resolution((8, 8, 20))
    assert layer.lower_vx.tolist() == [10, 0, 2]


@pytest.fixture(params=["0.4", "0.5", "0.5 sharded", "gs"])
def ome_layers(request, tiny_volume, tmp_path):
    """The tiny volume as OME-Zarr."""
    place = request.getfixturevalue("gcs_prefix") if request.param == "gs" else str(tmp_path)
    version = "0.4" if request.param == "0.4" else "0.5"
    more = {"sharded": "sharded" in request.param, "options": {"token": "anon"} if request.param == "gs" else None}
    made = []
    for name, layer in zip("abc", (tiny_volume.em, tiny_volume.segmentation, tiny_volume.cleft), strict=True):
        array_xyz = voxels(layer.at_resolution((16, 16, 40)))
        written = write_image(f"{place}/{name}", array_xyz, version, "czyx", **more)
        made.append(OmeZarrLayer(written.uri, layer.role, more["options"]))
    return made


def test_chunks_are_those_of_the_precomputed_volumes(ome_layers, tiny_volume, tmp_path):
    t = tiny_volume
    write_chunk_store(cut_chunks(t.em, t.segmentation, t.cleft, t.synapses, t.config), str(tmp_path / "p.zarr"))
    stream = cut_chunks(*ome_layers, t.synapses, t.config)
    write_chunk_store(stream, str(tmp_path / "o.zarr"))
    precomputed, ome = ChunkStore(str(tmp_path / "p.zarr")), ChunkStore(str(tmp_path / "o.zarr"))
    assert len(ome) == 2
    assert ome.sha256 == precomputed.sha256
    np.testing.assert_array_equal(ome.read(slice(None)), precomputed.read(slice(None)))
    for cache in (stream.batches.cutter.em, stream.batches.cutter.segmentation, stream.batches.cutter.cleft):
        assert 0 < cache.n_decoded <= 2 * 2 * 3


def test_the_fingerprint_changes_when_the_volume_is_written_again(tiny_volume, tmp_path):
    array_xyz = voxels(tiny_volume.em.at_resolution((16, 16, 40)))
    layer = write_image(str(tmp_path / "v"), array_xyz, "0.5")
    first = layer.at_resolution((16, 16, 40)).identity()
    assert layer.at_resolution((16, 16, 40)).identity() == first
    write_image(str(tmp_path / "v"), array_xyz, "0.5")
    assert layer.at_resolution((16, 16, 40)).identity() != first


def change(tmp_path, **changes):
    write_image(str(tmp_path / "v"), np.ones((8, 8, 8), np.uint8), "0.5")
    group = zarr.open_group(str(tmp_path / "v"))
    group.attrs["ome"] = {"multiscales": [dict(group.attrs["ome"]["multiscales"][0]) | changes]}
    return OmeZarrLayer(f"file://{tmp_path}/v", "EM volume")


AXES = [{"name": name, "type": "space"} for name in "zyx"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes": AXES}, "The axis x of the EM volume at .* has no unit. Give one of .*nanometer.* `unit:`"),
        ({"axes": [a | {"unit": "parsec"} for a in AXES]}, "The axis x .* has the unit parsec"),
        ({"axes": AXES[:2]}, "has the axes z, y; expected x, y, z"),
        ({"datasets": [{"path": "full"}]}, "NGFF 0.4 or 0.5: datasets.0.coordinateTransformations: Field required"),
    ],
)
def test_what_is_no_such_image_is_an_error_that_says_why(tmp_path, changes, message):
    with pytest.raises(VolumeError, match=message):
        change(tmp_path, **changes).at_resolution((16, 16, 40))


def test_other_mistakes_are_errors_that_name_the_volume(tmp_path):
    layer = change(tmp_path)
    with pytest.raises(VolumeError, match=r"has no scale of 8 x 8 x 40 nm; it has 32 x 32 x 80 nm, 16 x 16 x 40 nm"):
        layer.at_resolution((8, 8, 40))
    with pytest.raises(VolumeError, match="nowhere cannot be opened as OME-Zarr"):
        OmeZarrLayer(f"file://{tmp_path}/nowhere").at_resolution((8, 8, 40))
    zarr.open_group(str(tmp_path / "plain"), mode="w")
    with pytest.raises(VolumeError, match="without `multiscales`"):
        OmeZarrLayer(f"file://{tmp_path}/plain").at_resolution((8, 8, 40))


def test_the_catalog_entry_is_a_handle(tmp_path):
    write_image(str(tmp_path / "v"), np.ones((8, 8, 8), np.uint8), "0.4")
    dataset = OmeZarrVolumeDataset(filepath=str(tmp_path / "v"), role="EM volume", unit="nanometer")
    assert dataset.exists()
    assert dataset.load().at_resolution((16, 16, 40)).upper_vx.tolist() == [8, 8, 8]
    assert not OmeZarrVolumeDataset(filepath=str(tmp_path)).exists()


def test_the_unit_of_the_catalog_goes_before_the_files(tmp_path):
    change(tmp_path, axes=[a | {"unit": "micrometer"} for a in AXES])  # the numbers are nanometres
    layer = OmeZarrVolumeDataset(filepath=str(tmp_path / "v"), unit="nm").load()
    assert layer.at_resolution((16, 16, 40)).upper_vx.tolist() == [8, 8, 8]
    with pytest.raises(VolumeError, match="it has 32000 x 32000 x 80000 nm"):
        OmeZarrVolumeDataset(filepath=str(tmp_path / "v")).load().at_resolution((16, 16, 40))


@pytest.mark.parametrize("unit", ["um", "\u00b5m", "\u03bcm", "micron", "micrometre"])
def test_micrometres_are_understood_in_every_spelling(tmp_path, unit):
    write_image(str(tmp_path / "v"), np.ones((8, 8, 8), np.uint8), "0.5", unit="micrometer")
    group = zarr.open_group(str(tmp_path / "v"))
    image = dict(group.attrs["ome"]["multiscales"][0])
    group.attrs["ome"] = {"multiscales": [image | {"axes": [a | {"unit": unit} for a in image["axes"]]}]}
    opened = OmeZarrLayer(f"file://{tmp_path}/v").at_resolution((16, 16, 40))
    assert opened.upper_vx.tolist() == [8, 8, 8]


def test_several_channels_without_a_choice_are_an_error_that_lists_them(tmp_path):
    written = write_image(str(tmp_path / "v"), np.ones((8, 8, 8), np.uint8), "0.5", "czyx", channel=1)
    group = zarr.open_group(str(tmp_path / "v"))
    group.attrs["ome"] = dict(group.attrs["ome"]) | {"omero": {"channels": [{"label": "BSE"}, {"label": "SE"}]}}
    with pytest.raises(VolumeError, match=r"has 2 channels: 0 \(BSE\), 1 \(SE\). Say which one .* `channel:`"):
        OmeZarrVolumeDataset(filepath=str(tmp_path / "v")).load().at_resolution((16, 16, 40))
    with pytest.raises(VolumeError, match="there is none with the number 2"):
        OmeZarrVolumeDataset(filepath=str(tmp_path / "v"), channel=2).load().at_resolution((16, 16, 40))
    assert (voxels(written.at_resolution((16, 16, 40))) == 1).all()


@pytest.mark.parametrize("top", ["", "v.ome.zarr/"])
def test_a_zipped_store_is_read_whether_the_folder_or_its_content_was_zipped(tmp_path, top):
    import zipfile

    array_xyz = np.random.default_rng(0).integers(0, 255, (20, 18, 12)).astype(np.uint8)
    write_image(str(tmp_path / "v"), array_xyz, "0.5")
    write_image(str(tmp_path / "v/labels/neurons"), array_xyz // 2, "0.5")
    with zipfile.ZipFile(tmp_path / "v.ome.zarr.zip", "w") as archive:
        for file in sorted((tmp_path / "v").rglob("*")):
            if file.is_file():
                archive.write(file, f"{top}{file.relative_to(tmp_path / 'v')}")
    entry = OmeZarrVolumeDataset(filepath=str(tmp_path / "v.ome.zarr.zip"))
    assert entry.exists()
    np.testing.assert_array_equal(voxels(entry.load().at_resolution((16, 16, 40))), array_xyz)
    assert len(entry.load().at_resolution((16, 16, 40)).identity()) == 64
    labels = OmeZarrVolumeDataset(filepath=str(tmp_path / "v.ome.zarr.zip/labels/neurons")).load()
    np.testing.assert_array_equal(voxels(labels.at_resolution((16, 16, 40))), array_xyz // 2)


def test_a_zipped_store_in_a_bucket_is_refused_in_a_sentence():
    with pytest.raises(VolumeError, match="zipped stores are read from this machine's disk only"):
        OmeZarrVolumeDataset(filepath="gs://bucket/v.ome.zarr.zip").load().at_resolution((16, 16, 40))
