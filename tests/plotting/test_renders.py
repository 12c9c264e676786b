import io
import os

import numpy as np
import pytest

from synapseclr.errors import ConfigurationError, VolumeError
from synapseclr.plotting.renders import (
    encode_animation,
    interactive_scene,
    mask_surface,
    orthogonal_views,
    render_scene,
    render_sheet,
    render_synapse,
    section_frames,
    section_viewer,
    synapse_scene,
    turning_frames,
)
from synapseclr.plotting.renders.scene import dark_points
from synapseclr.plotting.theme import MASK_COLOURS

VOXEL_NM = (8.0, 8.0, 40.0)


def synapse_chunk(upside_down=False):
    """Presynaptic side towards low x, a flat cleft, postsynaptic side towards high x; dark blobs inside."""
    chunk = np.full((2, 40, 36, 12), 180, np.uint8)
    chunk[1] = 0
    first, last = (3, 1) if upside_down else (1, 3)
    chunk[1, 2:18, 4:32, 1:11] = first
    chunk[1, 22:38, 4:32, 1:11] = last
    chunk[1, 18:22, 8:28, 2:10] = 2
    chunk[0, 8:12, 10:20, 3:8] = 30
    return chunk


@pytest.fixture(scope="module")
def can_draw():
    """VTK draws through EGL or OSMesa, which the machine has to have."""
    try:
        render_synapse(synapse_chunk(), VOXEL_NM, 32)
    except Exception as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"VTK cannot draw here ({error}): `make system` installs Mesa's EGL")


def share_of(image_yxc, code):
    """Pixels whose hue is that of a mask, as rows and columns."""
    towards = np.array(MASK_COLOURS[code], float)
    excess_yx = (image_yxc - image_yxc.mean(axis=-1, keepdims=True)) @ (towards - towards.mean())
    return np.argwhere(excess_yx > 0.25 * excess_yx.max()) if excess_yx.max() > 500 else np.empty((0, 2))


def test_a_surface_is_closed_smooth_and_of_the_right_volume():
    x, y, z = np.indices((30, 30, 12))
    ball = (8.0 * (x - 15)) ** 2 + (8.0 * (y - 15)) ** 2 + (40.0 * (z - 6)) ** 2 < 100**2
    surface = mask_surface(ball, VOXEL_NM)
    corners_t33 = surface.vertices_v3[surface.triangles_t3].astype(float)
    volume = abs(np.einsum("ti,ti->t", corners_t33[:, 0], np.cross(corners_t33[:, 1], corners_t33[:, 2])).sum()) / 6
    assert volume == pytest.approx(ball.sum() * 8 * 8 * 40, rel=0.08)
    edges = np.sort(surface.triangles_t3[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    assert set(np.unique(edges, axis=0, return_counts=True)[1]) == {2}  # closed: every edge has two triangles
    np.testing.assert_allclose(surface.vertices_v3.mean(axis=0), [120, 120, 240], atol=8)


@pytest.mark.parametrize("max_triangles", [200, 2000])
def test_triangles_are_capped_without_moving_the_surface(max_triangles):
    mask = synapse_chunk()[1] == 3
    whole, capped = mask_surface(mask, VOXEL_NM, 10**6), mask_surface(mask, VOXEL_NM, max_triangles)
    assert 0 < len(capped.triangles_t3) <= max_triangles < len(whole.triangles_t3)
    for side in (np.min, np.max):
        np.testing.assert_allclose(
            side(capped.vertices_v3, axis=0), side(whole.vertices_v3, axis=0), atol=max(VOXEL_NM)
        )


def test_a_single_voxel_is_drawn_and_none_is_not():
    mask = np.zeros((9, 9, 9), bool)
    assert mask_surface(mask, VOXEL_NM).is_empty
    mask[4, 4, 4] = True
    np.testing.assert_allclose(mask_surface(mask, VOXEL_NM).vertices_v3.mean(axis=0), [32, 32, 160])


def test_points_are_dark_and_inside_of_the_eroded_masks():
    chunk = synapse_chunk()
    points = dark_points(chunk, VOXEL_NM, erosion_vx=2)
    places = tuple(np.rint(points.positions_p3 / np.array(VOXEL_NM)).astype(int).T)
    assert len(places[0]) == (chunk[0] == 30).sum()
    assert set(points.intensity_p) == {30}
    assert set(points.code_p) == {1}
    chunk[0, 2:4] = 30  # the outermost membrane of the presynaptic side
    assert len(dark_points(chunk, VOXEL_NM, erosion_vx=2).positions_p3) == len(places[0])
    assert len(dark_points(chunk, VOXEL_NM, erosion_vx=0).positions_p3) > len(places[0])
    assert len(dark_points(chunk, VOXEL_NM, max_points=50).positions_p3) == 50


@pytest.mark.parametrize("upside_down", [False, True])
def test_the_presynaptic_side_is_up(can_draw, upside_down):
    image = render_synapse(synapse_chunk(upside_down), VOXEL_NM, 160)
    pre, cleft, post = (share_of(image, code)[:, 0].mean() for code in (1, 2, 3))
    assert pre < cleft < post


def test_nothing_leaves_the_picture_while_it_turns(can_draw):
    frames = turning_frames(synapse_chunk(), VOXEL_NM, n_frames=5, size_px=96)
    for frame in frames:
        border = np.concatenate([frame[0], frame[-1], frame[:, 0], frame[:, -1]])
        assert (border == 255).all()
        assert (frame < 250).any()


@pytest.mark.parametrize("n_cleft", [0, 1, 2])
def test_an_absent_or_tiny_cleft_is_drawn_all_the_same(can_draw, n_cleft):
    chunk = synapse_chunk()
    chunk[1][chunk[1] == 2] = 0
    chunk[1, 20, 10 : 10 + n_cleft, 5] = 2
    scene = synapse_scene(chunk, VOXEL_NM)
    assert not scene.plane.is_defined
    assert (2 in scene.surfaces) == (n_cleft > 0)
    assert (render_scene(scene, 64) < 250).any()
    assert len(interactive_scene(scene).data) == len(scene.surfaces) + 1


def test_a_chunk_of_nothing_gives_an_empty_picture(can_draw):
    chunk = np.zeros((2, 16, 16, 8), np.uint8)
    assert (render_synapse(chunk, VOXEL_NM, 48) == 255).all()
    assert not interactive_scene(synapse_scene(chunk, VOXEL_NM)).data


def test_a_chunk_of_another_form_is_refused():
    with pytest.raises(VolumeError, match=r"\(2, x, y, z\).*\(16, 16, 8\)"):
        synapse_scene(np.zeros((16, 16, 8), np.uint8), VOXEL_NM)


def test_the_interactive_scene_opens_with_the_presynaptic_side_up():
    figure = interactive_scene(synapse_scene(synapse_chunk(), VOXEL_NM))
    assert [trace.name for trace in figure.data] == ["presynaptic", "cleft", "postsynaptic", "dark in EM"]
    camera = figure.layout.scene.camera
    assert camera.up.x == pytest.approx(-1, abs=0.01)  # presynaptic towards low x
    assert abs(camera.eye.x - camera.center.x) < 0.01  # from within the cleft's plane


def test_the_section_viewer_shows_each_section_with_its_masks():
    from PIL import Image

    chunk = synapse_chunk()
    figure = section_viewer(chunk, VOXEL_NM)
    steps = figure.layout.sliders[0].steps
    assert len(steps) == 12

    def pixels(uri):
        import base64

        return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))

    np.testing.assert_array_equal(pixels(steps[5].args[0]["images[0].source"]), chunk[0, :, :, 5].T)
    colours = pixels(steps[5].args[0]["images[1].source"])
    assert tuple(colours[10, 20]) == (*MASK_COLOURS[2], 255)
    assert colours[0, 0, 3] == 0


@pytest.mark.parametrize(("kind", "magic"), [("gif", b"GIF89a"), ("mp4", b"ftyp")])
def test_animations_are_playable_files(kind, magic):
    import imageio.v3 as iio

    chunk = synapse_chunk()
    chunk[0, :8] = 20 * np.arange(12, dtype=np.uint8)  # a GIF shows equal pictures as one, for longer
    frames = section_frames(chunk, VOXEL_NM, size_px=60)
    assert frames.shape == (12, 54, 120, 3)
    encoded = encode_animation(frames, kind)
    assert magic in encoded[:16]
    played = iio.imread(encoded, extension=f".{kind}", index=None if kind == "gif" else ...)
    assert len(played) == 12
    assert np.abs(played[5][..., :3].astype(int) - frames[5]).mean() < 12


def test_an_unknown_kind_of_animation_is_refused():
    with pytest.raises(ConfigurationError, match="gif or an mp4, not 'avi'"):
        encode_animation(np.zeros((2, 4, 4, 3), np.uint8), "avi")


def test_sheets_have_one_panel_per_synapse(can_draw):
    chunks = [synapse_chunk(), synapse_chunk(upside_down=True)]
    sheet = render_sheet(iter(chunks), VOXEL_NM, ["12", "34"], size_px=48)
    assert [axes.get_title(loc="left") for axes in sheet.axes] == ["12", "34"]
    views = orthogonal_views(chunks[0], VOXEL_NM, "synapse 12")
    assert [axes.get_title(loc="left") for axes in views.axes[:3]] == [
        "synapse 12  xy, z = 6",
        "xz, y = 18",
        "yz, x = 20",
    ]
