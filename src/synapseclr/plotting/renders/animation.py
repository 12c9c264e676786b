"""A synapse in motion: turned around, or walked through section by section."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from synapseclr.errors import ConfigurationError
from synapseclr.plotting.renders.image import render_scene
from synapseclr.plotting.renders.scene import synapse_scene
from synapseclr.plotting.sections import mask_overlay
from synapseclr.storage.atomic_files import write_whole

_FORMATS = ("gif", "mp4")


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
