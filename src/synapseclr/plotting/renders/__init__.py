"""Synapses in three dimensions: as pictures without a display, to turn with the mouse, in motion."""

from synapseclr.plotting.renders.animation import encode_animation, save_animation, section_frames, turning_frames
from synapseclr.plotting.renders.image import render_scene, render_synapse
from synapseclr.plotting.renders.interactive import interactive_scene, section_viewer
from synapseclr.plotting.renders.scene import Camera, SynapseScene, synapse_scene
from synapseclr.plotting.renders.sheets import orthogonal_views, render_sheet
from synapseclr.plotting.renders.surfaces import Surface, mask_surface

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
