"""Three-dimensional views as pixels, drawn by VTK without a display."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from synapseclr.plotting.renders.scene import OPACITY, Camera, SynapseScene, synapse_scene
from synapseclr.plotting.renders.surfaces import EMPTY_SURFACE, Surface
from synapseclr.plotting.theme import MASK_COLOURS

if TYPE_CHECKING:
    import pyvista

_DRAWER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vtk")  # an OpenGL context belongs to one thread
_VIEW_ANGLE = 20.0


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
