"""Pictures of synapses, made on request and cached."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from synapseclr.plotting.renders import interactive_scene, synapse_scene
from synapseclr.plotting.sections import mask_overlay, richest_section

if TYPE_CHECKING:
    from synapseclr.volumes.store.chunk_store import ChunkStore

_WEB_TRIANGLES = 5_000
_WEB_POINTS = 3_000
_THUMBNAIL_PX = 128
_JPEG_QUALITY = 88
_CHUNKS_KEPT = 4  # the page requests one synapse's pictures one after the other


PictureKind = Literal["thumbnail", "em_strip", "mask_strip", "scene"]


class ByteCache:
    """The values used last, up to a limit of bytes. Safe to use from several threads.

    Args:
        max_bytes: Of all values together.
    """

    def __init__(self, max_bytes: int = 200_000_000) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[str, int], make: Callable[[], bytes]) -> bytes:
        """Return the kept value, or make it; two threads may make the same one at once, and one result is kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made
                self._n_bytes += len(made)
                while self._n_bytes > self._max_bytes and len(self._kept) > 1:
                    self._n_bytes -= len(self._kept.popitem(last=False)[1])
        return made

    @property
    def n_bytes(self) -> int:
        """Bytes kept now."""
        return self._n_bytes


class SynapseImages:
    """Pictures by position in the chunk store.

    Args:
        chunks: The store.
        cache: Cache of the pictures.
    """

    def __init__(self, chunks: ChunkStore, cache: ByteCache | None = None) -> None:
        self._chunks = chunks
        self._cache = cache or ByteCache()
        self._read = lru_cache(_CHUNKS_KEPT)(self._read_chunk)

    def picture(self, kind: PictureKind, position: int) -> bytes:
        """A picture of the synapse at a position of the store.

        Args:
            kind: ``thumbnail``: the section that shows the synapse best, with its masks (JPEG). ``em_strip``: all
                sections below each other, x to the right and y downwards (JPEG). ``mask_strip``: their masks, equally
                large (transparent PNG). ``scene``: the three-dimensional view (JSON of a plotly figure).
            position: Position in the chunk store.
        """
        return self._cache.get((kind, position), lambda: getattr(self, f"_{kind}")(position))

    def best_section(self, position: int) -> int:
        """Index along z of the section that shows the synapse best."""
        kept = self._cache.get(("section", position), lambda: str(richest_section(self._read(position))).encode())
        return int(kept)

    def _read_chunk(self, position: int) -> np.ndarray:
        return self._chunks.read([position])[0]

    def _thumbnail(self, position: int) -> bytes:
        from PIL import Image

        chunk_cxyz = self._read(position)
        section = richest_section(chunk_cxyz)
        grey_yx1 = chunk_cxyz[0, :, :, section].T[:, :, None].astype(np.float32)
        overlay_yxc = mask_overlay(chunk_cxyz[1, :, :, section])
        alpha_yx1 = overlay_yxc[..., 3:]
        blended_yxc = np.rint(grey_yx1 * (1 - alpha_yx1) + 255 * overlay_yxc[..., :3] * alpha_yx1).astype(np.uint8)
        picture = Image.fromarray(blended_yxc)
        picture.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
        return _encoded(picture, "JPEG", quality=_JPEG_QUALITY)

    def _em_strip(self, position: int) -> bytes:
        from PIL import Image

        return _encoded(Image.fromarray(_strip(self._read(position)[0])), "JPEG", quality=_JPEG_QUALITY)

    def _mask_strip(self, position: int) -> bytes:
        from PIL import Image

        table = np.rint(255 * mask_overlay(np.arange(256, dtype=np.uint8)[:, None], opacity=0.75)[0]).astype(np.uint8)
        picture = Image.fromarray(_strip(self._read(position)[1]), mode="P")
        picture.putpalette(table[:, :3].tobytes(), "RGB")
        return _encoded(picture, "PNG", transparency=table[:, 3].tobytes())

    def _scene(self, position: int) -> bytes:
        scene = synapse_scene(self._read(position), self._chunks.voxel_size_nm, _WEB_TRIANGLES, _WEB_POINTS)
        figure = interactive_scene(scene)
        figure.update_layout(template=None)  # the page has colours for light and dark
        return str(figure.to_json()).encode()


def _strip(volume_xyz: np.ndarray) -> np.ndarray:
    """Sections below each other: (x, y, z) to (z * y, x)."""
    return np.ascontiguousarray(volume_xyz.transpose(2, 1, 0)).reshape(-1, volume_xyz.shape[0])


def _encoded(picture: object, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)  # type: ignore[attr-defined]
    return buffer.getvalue()
