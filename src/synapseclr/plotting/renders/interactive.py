"""Views of a synapse to turn and to leaf through, as plotly figures: in notebooks, on web pages, in saved HTML."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.plotting.renders.image import point_greys
from synapseclr.plotting.renders.scene import OPACITY, SynapseScene
from synapseclr.plotting.sections import mask_overlay, richest_section
from synapseclr.plotting.theme import MASK_COLOURS, MASK_NAMES, plotly_layout

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_DISTANCE = 2.2  # of the camera, in units of the scene's cube


def interactive_scene(scene: SynapseScene, height: int = 480) -> Figure:
    """Draw a scene to turn with the mouse; a click in the legend hides a surface or the points.

    Args:
        scene: From :func:`synapse_scene`.
        height: Height in pixels.

    Returns:
        A plotly figure, which opens with the presynaptic side up. Axes are in nm.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for code, surface in scene.surfaces.items():
        x_v, y_v, z_v = np.round(surface.vertices_v3.T, 1)
        i_t, j_t, k_t = surface.triangles_t3.T
        figure.add_trace(
            go.Mesh3d(
                x=x_v, y=y_v, z=z_v, i=i_t, j=j_t, k=k_t,
                color="rgb({}, {}, {})".format(*MASK_COLOURS[code]),
                opacity=OPACITY[code],
                name=MASK_NAMES[code],
                showlegend=True,
                hoverinfo="name",
                lighting={"ambient": 0.55, "diffuse": 0.7, "specular": 0.2, "roughness": 0.6},
            )
        )  # fmt: skip
    if len(scene.points.positions_p3):
        x_p, y_p, z_p = scene.points.positions_p3.T
        greys = [f"rgb({grey},{grey},{grey})" for grey in point_greys(scene)[:, 0].tolist()]
        marker = {"size": 1.2, "color": greys, "opacity": 0.6, "line": {"width": 0}}
        figure.add_trace(
            go.Scatter3d(
                x=x_p, y=y_p, z=z_p, mode="markers", marker=marker, name="dark in EM", hoverinfo="skip"
            )
        )  # fmt: skip
    figure.update_layout(**plotly_layout(height) | {"margin": {"l": 0, "r": 0, "t": 0, "b": 0}})
    figure.update_layout(scene=_scene_layout(scene), legend={"orientation": "h", "y": 0.0, "itemsizing": "constant"})
    return figure


def _scene_layout(scene: SynapseScene) -> dict[str, Any]:
    """Axes and camera. Plotly counts the camera's place in units of the longest axis, from the middle of the box."""
    span = float(scene.size_nm.max())
    centre = (scene.camera.focus_xyz_nm - scene.size_nm / 2) / span
    eye = centre + _DISTANCE * scene.camera.towards_viewer
    axes = {}
    for name, size in zip("xyz", scene.size_nm.tolist(), strict=True):
        axes[f"{name}axis"] = {
            "title": f"{name} (nm)",
            "range": [0, size],
            "nticks": 4,
            "showbackground": False,
            "showspikes": False,
        }
    return {
        **axes,
        "aspectmode": "data",
        "camera": {"eye": _as_point(eye), "center": _as_point(centre), "up": _as_point(scene.camera.up)},
    }


def _as_point(vector: np.ndarray) -> dict[str, float]:
    return {name: round(float(value), 5) for name, value in zip("xyz", vector, strict=True)}


def section_viewer(
    chunk_cxyz: np.ndarray, voxel_size_nm: Sequence[float], opacity: float = 0.28, height: int = 520, title: str = ""
) -> Figure:
    """A synapse to leaf through, section by section, with and without masks. Needs no running kernel.

    Args:
        chunk_cxyz: uint8 (2, x, y, z): intensity, mask codes.
        voxel_size_nm: Voxel size (x, y, z).
        opacity: Opacity of the masks at the start.
        height: Height in pixels.
        title: Heading, such as the synapse id.

    Returns:
        A plotly figure with a slider over the sections and a button for the masks. Axes are in nm, y downwards.
    """
    import plotly.graph_objects as go

    width_nm, height_nm = (chunk_cxyz.shape[axis + 1] * float(voxel_size_nm[axis]) for axis in (0, 1))
    place = {"xref": "x", "yref": "y", "x": 0, "y": 0, "sizex": width_nm, "sizey": height_nm, "sizing": "stretch"}
    first = richest_section(chunk_cxyz)
    greys = [_png_uri(chunk_cxyz[0, :, :, section].T) for section in range(chunk_cxyz.shape[-1])]
    masks = [_png_uri(_rgba(chunk_cxyz[1, :, :, section])) for section in range(chunk_cxyz.shape[-1])]
    steps = [
        {
            "method": "relayout",
            "label": str(section),
            "args": [{"images[0].source": greys[section], "images[1].source": masks[section]}],
        }
        for section in range(len(greys))
    ]
    buttons = [
        {"label": label, "method": "relayout", "args": [{"images[1].opacity": value}]}
        for label, value in (("masks", opacity), ("EM alone", 0.0))
    ]
    figure = go.Figure(
        go.Scatter(x=[0, width_nm], y=[0, height_nm], mode="markers", marker={"opacity": 0}, hoverinfo="skip")
    )
    figure.update_layout(**plotly_layout(height) | {"margin": {"l": 60, "r": 20, "t": 60, "b": 20}}, title=title)
    figure.update_layout(
        images=[
            {**place, "source": greys[first], "layer": "below"},
            {**place, "source": masks[first], "layer": "below", "opacity": opacity},
        ],
        sliders=[{"active": first, "steps": steps, "currentvalue": {"prefix": "section "}, "pad": {"t": 45}}],
        updatemenus=[{"type": "buttons", "direction": "right", "buttons": buttons, "x": 1.0, "y": 1.12}],
        showlegend=False,
    )
    figure.update_xaxes(title="x (nm)", range=[0, width_nm], showgrid=False, zeroline=False, constrain="domain")
    figure.update_yaxes(
        title="y (nm)", range=[height_nm, 0], showgrid=False, zeroline=False, scaleanchor="x", constrain="domain"
    )
    return figure


def _rgba(mask_xy: np.ndarray) -> np.ndarray:
    """Opaque colours where there is a mask, uint8 (y, x, 4); the figure sets the opacity."""
    return np.rint(255 * mask_overlay(mask_xy, opacity=1.0)).astype(np.uint8)


def _png_uri(pixels: np.ndarray) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="png", compress_level=4)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
