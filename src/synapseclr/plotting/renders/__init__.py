"""Synapses in three dimensions: as pictures without a display, to turn with the mouse, in motion."""

from synapseclr.plotting.renders.image import (
    encode_animation,
    orthogonal_views,
    render_scene,
    render_sheet,
    render_synapse,
    save_animation,
    section_frames,
    turning_frames,
)
from synapseclr.plotting.renders.interactive import interactive_scene, section_viewer
from synapseclr.plotting.renders.scene import Camera, Surface, SynapseScene, mask_surface, synapse_scene

__all__ = [
    "Camera",
    "Surface",
    "SynapseScene",
    "encode_animation",
    "interactive_scene",
    "mask_surface",
    "orthogonal_views",
    "render_scene",
    "render_sheet",
    "render_synapse",
    "save_animation",
    "section_frames",
    "section_viewer",
    "synapse_scene",
    "turning_frames",
]
