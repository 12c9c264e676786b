"""Three-dimensional views as pixels, drawn by VTK without a display: pictures, sheets of them, animations."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synapseclr.analysis.handcrafted import cleft_plane
from synapseclr.errors import ConfigurationError
from synapseclr.plotting.renders.scene import EMPTY_SURFACE, OPACITY, Camera, Surface, SynapseScene, synapse_scene
from synapseclr.plotting.sections import draw_section, mask_legend, mask_overlay
from synapseclr.plotting.theme import MASK_COLOURS, panel_grid, style_image
from synapseclr.storage.atomic_files import write_whole

if TYPE_CHECKING:
    import pyvista
    from matplotlib.figure import Figure


_DRAWER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vtk")  # an OpenGL context belongs to one thread
_VIEW_ANGLE = 20.0
_VIEWS = (("xy", (0, 1, 2)), ("xz", (0, 2, 1)), ("yz", (1, 2, 0)))
_FORMATS = ("gif", "mp4")


def render_synapse(
    chunk_cxyz: np.ndarray, voxel_size_nm: Sequence[float], size_px: int = 480, background: str = "white"
) -> np.ndarray:
    """Draw one synapse in three dimensions, presynaptic side up.

    Args:
        chunk_cxyz: uint8 (2, x, y, z): intensity, mask codes.
        voxel_size_nm: Voxel size (x, y, z).
        size_px: Side of the square picture.
        background: Colour name or ``#rrggbb``.

    Returns:
        uint8 RGB (size_px, size_px, 3).
    """
    return render_scene(synapse_scene(chunk_cxyz, voxel_size_nm), size_px, background)[0]


def render_scene(
    scene: SynapseScene, size_px: int = 480, background: str = "white", degrees: Sequence[float] = (0.0,)
) -> np.ndarray:
    """Draw a scene from one or several sides. May be called from any thread; drawing happens in one of its own.

    Args:
        scene: From :func:`synapse_scene`.
        size_px: Side of the square pictures.
        background: Colour name or ``#rrggbb``.
        degrees: Angles by which the camera is carried around the cleft's normal.

    Returns:
        uint8 RGB (len(degrees), size_px, size_px, 3).
    """
    return _DRAWER.submit(_draw, scene, size_px, background, tuple(degrees)).result()


def _draw(scene: SynapseScene, size_px: int, background: str, degrees: tuple[float, ...]) -> np.ndarray:
    import pyvista

    plotter = pyvista.Plotter(off_screen=True, window_size=[size_px, size_px], lighting="light kit")
    try:
        plotter.set_background(background)  # type: ignore[arg-type]
        plotter.enable_anti_aliasing("msaa", multi_samples=4)
        _add_points(plotter, scene)
        mesh, rgba_v4 = _all_surfaces(scene)
        frames = []
        for angle in degrees:
            camera = scene.camera.turned(angle) if len(degrees) > 1 else scene.camera
            _add_surfaces(plotter, mesh, rgba_v4, camera)
            _aim(plotter, camera)
            frames.append(np.asarray(plotter.screenshot(return_img=True))[..., :3].copy())
    finally:
        plotter.close()
    return np.stack(frames)


def _add_points(plotter: pyvista.Plotter, scene: SynapseScene) -> None:
    import pyvista

    if len(scene.points.positions_p3):
        cloud = pyvista.PolyData(scene.points.positions_p3)
        cloud["grey"] = point_greys(scene)
        plotter.add_mesh(cloud, scalars="grey", rgb=True, point_size=2.5, lighting=False, name="points")


def _all_surfaces(scene: SynapseScene) -> tuple[Surface, np.ndarray]:
    """All surfaces as one, and the colour of each vertex, uint8 RGBA (v, 4)."""
    vertices, triangles, colours = [], [], []
    n_before = 0
    for code, surface in scene.surfaces.items():
        vertices.append(surface.vertices_v3)
        triangles.append(surface.triangles_t3 + n_before)
        colours.append(np.tile([*MASK_COLOURS[code], round(255 * OPACITY[code])], (len(surface.vertices_v3), 1)))
        n_before += len(surface.vertices_v3)
    if not vertices:
        return EMPTY_SURFACE, np.empty((0, 4), np.uint8)
    return Surface(np.concatenate(vertices), np.concatenate(triangles)), np.concatenate(colours).astype(np.uint8)


def _add_surfaces(plotter: pyvista.Plotter, merged: Surface, rgba_v4: np.ndarray, camera: Camera) -> None:
    """Add triangles from back to front: blended in this order they need no depth peeling, which takes twice as long."""
    import pyvista

    if merged.is_empty:
        return
    depth_t = merged.vertices_v3[merged.triangles_t3].mean(axis=1) @ camera.towards_viewer
    mesh = pyvista.PolyData.from_regular_faces(merged.vertices_v3, merged.triangles_t3[np.argsort(depth_t)])
    mesh["rgba"] = rgba_v4
    plotter.add_mesh(
        mesh, scalars="rgba", rgba=True, smooth_shading=True, specular=0.25, specular_power=12, name="surfaces"
    )


def point_greys(scene: SynapseScene) -> np.ndarray:
    """Grey values of the points, uint8 (p, 3): the darker the voxel, the darker the point, none lighter than 110."""
    intensity_p = scene.points.intensity_p.astype(np.float32)
    lightest = max(float(intensity_p.max(initial=1)), 1.0)
    grey_p = np.rint(20 + 90 * intensity_p / lightest).astype(np.uint8)
    return np.repeat(grey_p[:, None], 3, axis=1)


def _aim(plotter: pyvista.Plotter, camera: Camera) -> None:
    distance = camera.radius_nm / np.tan(np.deg2rad(_VIEW_ANGLE / 2))
    plotter.camera.focal_point = tuple(camera.focus_xyz_nm)
    plotter.camera.position = tuple(camera.focus_xyz_nm + distance * camera.towards_viewer)
    plotter.camera.up = tuple(camera.up)
    plotter.camera.view_angle = _VIEW_ANGLE
    plotter.camera.clipping_range = (
        max(distance - 4 * camera.reach_nm, 0.01 * distance),
        distance + 4 * camera.reach_nm,
    )


def render_sheet(
    chunks: Iterable[np.ndarray],
    voxel_size_nm: Sequence[float],
    titles: Sequence[str],
    columns: int = 6,
    size_px: int = 300,
) -> Figure:
    """Many synapses in three dimensions, presynaptic side up.

    Args:
        chunks: uint8 (2, x, y, z) each; may be read one by one.
        voxel_size_nm: Voxel size (x, y, z).
        titles: One heading per synapse, such as its id; at least one.
        columns: Synapses per row.
        size_px: Side of each render.

    Returns:
        A figure with one pair of axes per synapse.
    """
    figure, grid = panel_grid(len(titles), columns, (1.7, 1.7), above_in=0.3, foot_in=0.35)
    for axes, chunk_cxyz, title in zip(grid, chunks, titles, strict=True):
        axes.imshow(render_synapse(chunk_cxyz, voxel_size_nm, size_px), interpolation="antialiased")
        style_image(axes)
        axes.set_title(title, loc="left", fontsize=6.5, pad=3)
    mask_legend(figure)
    return figure


def orthogonal_views(
    chunk_cxyz: np.ndarray, voxel_size_nm: Sequence[float], title: str = "", opacity: float = 0.28
) -> Figure:
    """Sections through the cleft's centre along the three planes of the volume: EM above, with masks below.

    Args:
        chunk_cxyz: uint8 (2, x, y, z): intensity, mask codes.
        voxel_size_nm: Voxel size (x, y, z).
        title: Heading, such as the synapse id.
        opacity: Opacity of the masks.

    Returns:
        A figure with six axes, each to scale; through the chunk's middle if there is no cleft.
    """
    centre = cleft_plane(chunk_cxyz[1], voxel_size_nm).centre_xyz_nm / np.asarray(voxel_size_nm, dtype=np.float64)
    figure, grid = panel_grid(2 * len(_VIEWS), len(_VIEWS), (2.4, 2.4), foot_in=0.35)
    for column, (name, order) in enumerate(_VIEWS):
        view_cxyz = chunk_cxyz.transpose(0, *(axis + 1 for axis in order))
        size_nm = [float(voxel_size_nm[axis]) for axis in order]
        section = int(np.clip(round(float(centre[order[2]])), 0, view_cxyz.shape[-1] - 1))
        for row, alpha in enumerate((0.0, opacity)):
            axes = grid[row * len(_VIEWS) + column]
            draw_section(axes, view_cxyz, size_nm, section, opacity=alpha, scale_bar=row == 0)
            axes.set_aspect("equal")
        heading = f"{name}, {'xyz'[order[2]]} = {section}"
        grid[column].set_title(f"{title}  {heading}" if column == 0 and title else heading, loc="left", fontsize=8)
    mask_legend(figure)
    return figure


def turning_frames(
    chunk_cxyz: np.ndarray, voxel_size_nm: Sequence[float], n_frames: int = 36, size_px: int = 360
) -> np.ndarray:
    """Pictures of a synapse that turns once around the normal of its cleft.

    Args:
        chunk_cxyz: uint8 (2, x, y, z): intensity, mask codes.
        voxel_size_nm: Voxel size (x, y, z).
        n_frames: Pictures of one turn.
        size_px: Side of the square pictures.

    Returns:
        uint8 RGB (n_frames, size_px, size_px, 3).
    """
    scene = synapse_scene(chunk_cxyz, voxel_size_nm)
    return render_scene(scene, size_px, degrees=tuple(np.linspace(0, 360, n_frames, endpoint=False)))


def section_frames(
    chunk_cxyz: np.ndarray, voxel_size_nm: Sequence[float], size_px: int = 360, opacity: float = 0.28
) -> np.ndarray:
    """Pictures of the walk through a synapse along z: EM on the left, with masks on the right.

    Args:
        chunk_cxyz: uint8 (2, x, y, z): intensity, mask codes.
        voxel_size_nm: Voxel size (x, y, z).
        size_px: Height of the pictures; each section is this wide, or narrower if it is not square.
        opacity: Opacity of the masks.

    Returns:
        uint8 RGB (z, size_px, 2 widths, 3).
    """
    from PIL import Image

    width_nm, height_nm = (chunk_cxyz.shape[axis + 1] * float(voxel_size_nm[axis]) for axis in (0, 1))
    scale = size_px / max(width_nm, height_nm)
    shown_px = (_even(width_nm * scale), _even(height_nm * scale))
    frames = []
    for section in range(chunk_cxyz.shape[-1]):
        grey_yxc = np.repeat(chunk_cxyz[0, :, :, section].T[:, :, None], 3, axis=2)
        overlay_yxc = mask_overlay(chunk_cxyz[1, :, :, section], opacity)
        alpha_yx1 = overlay_yxc[..., 3:]
        blended_yxc = np.rint(grey_yxc * (1 - alpha_yx1) + 255 * overlay_yxc[..., :3] * alpha_yx1).astype(np.uint8)
        pair = [np.asarray(Image.fromarray(pixels).resize(shown_px)) for pixels in (grey_yxc, blended_yxc)]
        frames.append(np.concatenate(pair, axis=1))
    return np.stack(frames)


def _even(length: float) -> int:
    """Video codecs halve the colour's resolution: sides must be even."""
    return max(2, 2 * round(length / 2))


def encode_animation(frames_nyxc: np.ndarray, kind: str = "gif", frames_per_second: float = 12.0) -> bytes:
    """Make a file of pictures.

    Args:
        frames_nyxc: uint8 RGB (n, y, x, 3).
        kind: ``gif``, which repeats for ever, or ``mp4`` (H.264).
        frames_per_second: Speed.

    Returns:
        The file's bytes.

    Raises:
        ConfigurationError: If the kind is another one.
    """
    import imageio.v3 as iio

    if kind not in _FORMATS:
        raise ConfigurationError(f"An animation can be a {' or an '.join(_FORMATS)}, not '{kind}'.")
    buffer = io.BytesIO()
    if kind == "gif":
        iio.imwrite(buffer, frames_nyxc, extension=".gif", duration=1000 / frames_per_second, loop=0)
        return buffer.getvalue()
    sides = [length - length % 2 for length in frames_nyxc.shape[1:3]]
    even_nyxc = np.ascontiguousarray(frames_nyxc[:, : sides[0], : sides[1]])
    iio.imwrite(buffer, even_nyxc, extension=".mp4", plugin="FFMPEG", fps=frames_per_second, macro_block_size=2)
    return buffer.getvalue()


def save_animation(frames_nyxc: np.ndarray, path: str | Path, frames_per_second: float = 12.0) -> None:
    """Write pictures to a ``.gif`` or ``.mp4`` file.

    Args:
        frames_nyxc: uint8 RGB (n, y, x, 3).
        path: Where to; its ending says what kind.
        frames_per_second: Speed.
    """
    kind = Path(path).suffix.lstrip(".").lower()
    write_whole(path, encode_animation(frames_nyxc, kind, frames_per_second), is_recorded=False)
