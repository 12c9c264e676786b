"""What is measured on a chunk itself, without learning: grey levels, masks, the plane of the cleft."""

from synapseclr.analysis.handcrafted.cleft_plane import CleftPlane, cleft_plane, view_axes
from synapseclr.analysis.handcrafted.image_statistics import STATISTIC_NAMES, chunk_statistics, store_statistics
from synapseclr.analysis.handcrafted.mask_statistics import (
    MASK_STATISTIC_NAMES,
    mask_statistics,
    store_mask_statistics,
)

__all__ = [
    "MASK_STATISTIC_NAMES",
    "STATISTIC_NAMES",
    "CleftPlane",
    "chunk_statistics",
    "cleft_plane",
    "mask_statistics",
    "store_mask_statistics",
    "store_statistics",
    "view_axes",
]
