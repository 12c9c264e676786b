"""One synapse: its chunk, put together from the storage blocks that it touches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.volumes.store.chunk_layout import MASK_CODES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synapseclr.volumes.config import PreprocessingConfig
    from synapseclr.volumes.layers.blocks import Block, BlockCache

_ONE_NUMBER = np.zeros((1, 1, 1), np.uint8)


class RejectedError(Exception):
    """A synapse cannot be cut; the message is the reason that is kept."""


@dataclass(frozen=True)
class _Part:
    """What a block has of a chunk."""

    block: Block
    in_chunk: tuple[slice, slice, slice]
    in_block: tuple[slice, slice, slice]

    @property
    def offset_vx(self) -> NDArray[np.int64]:
        return np.asarray([axis.start for axis in self.in_chunk], np.int64)

    @property
    def numbers_xyz(self) -> NDArray[Any]:
        if self.block.array_xyz is None:
            shape = tuple(axis.stop - axis.start for axis in self.in_block)
            return np.broadcast_to(_ONE_NUMBER, shape)
        return self.block.array_xyz[self.in_block]


@dataclass(frozen=True)
class SynapseCutter:
    """Cuts chunks out of cached blocks.

    Attributes:
        em: Blocks of intensities.
        segmentation: Blocks of root ids.
        cleft: Blocks of cleft ids.
        config: Sizes and limits.
    """

    em: BlockCache
    segmentation: BlockCache
    cleft: BlockCache
    config: PreprocessingConfig

    def request(self, centre_vx: NDArray[np.int64]) -> None:
        """Begin to fetch the blocks of a synapse in the background."""
        lower_vx, size_vx = self._box(centre_vx)
        for cache in (self.cleft, self.segmentation, self.em):
            if cache.fetches_ahead:
                cache.request(cache.indices(lower_vx, size_vx))

    def cut(
        self, centre_vx: NDArray[np.int64], pre_root_id: int, post_root_id: int
    ) -> tuple[NDArray[np.uint8], dict[str, int]]:
        """Cut one synapse.

        Args:
            centre_vx: Its centre (x, y, z).
            pre_root_id: Root id of the presynaptic neuron; 0 is none.
            post_root_id: Root id of the postsynaptic neuron; 0 is none.

        Returns:
            uint8 (2, x, y, z), intensity and mask codes; and ``cleft_id, n_cutout_sections, n_padded_voxels``.

        Raises:
            RejectedError: If its centre is outside, or no cleft is near it.
            VolumeError: If a storage block cannot be read.
        """
        from synapseclr.volumes.cutting.masks import write_codes

        bounds = self.em.layer
        if (centre_vx < bounds.lower_vx).any() or (centre_vx >= bounds.upper_vx).any():
            raise RejectedError(
                f"its centre, voxel {centre_vx.tolist()}, lies outside of the EM volume "
                f"({bounds.lower_vx.tolist()} to {bounds.upper_vx.tolist()})"
            )
        lower_vx, size_vx = self._box(centre_vx)
        clefts = list(_parts(self.cleft, lower_vx, size_vx))
        cleft_id = self._match_cleft(clefts, size_vx)
        chunk_cxyz = np.zeros((2, *size_vx), np.uint8)
        intensity_xyz, mask_xyz = chunk_cxyz
        codes = ((post_root_id, "post_synaptic_neuron"), (pre_root_id, "pre_synaptic_neuron"))
        for part in _parts(self.segmentation, lower_vx, size_vx):
            code_of_number = np.zeros(len(part.block.ids), np.uint8)
            for root_id, name in codes:
                if root_id:
                    code_of_number[part.block.ids == root_id] = MASK_CODES[name]
            if code_of_number.any():
                write_codes(mask_xyz[part.in_chunk], part.numbers_xyz, code_of_number)
        for part in clefts:
            code_of_number = (part.block.ids == cleft_id).astype(np.uint8) * np.uint8(MASK_CODES["synaptic_cleft"])
            if code_of_number.any():
                write_codes(mask_xyz[part.in_chunk], part.numbers_xyz, code_of_number)
        for part in _parts(self.em, lower_vx, size_vx):
            is_uniform = part.block.array_xyz is None
            intensity_xyz[part.in_chunk] = part.block.ids[0] if is_uniform else part.numbers_xyz
        n_cutout, n_padded = self._clear_cutouts(intensity_xyz, lower_vx, size_vx)
        return chunk_cxyz, {"cleft_id": cleft_id, "n_cutout_sections": n_cutout, "n_padded_voxels": n_padded}

    def _box(self, centre_vx: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        size_vx = np.asarray(self.config.chunk_size_vx, np.int64)
        return centre_vx - size_vx // 2, size_vx

    def _match_cleft(self, clefts: list[_Part], size_vx: NDArray[np.int64]) -> int:
        """Find the cleft whose nearest voxel lies closest to the chunk's centre."""
        from synapseclr.volumes.cutting.masks import nearest_labelled

        unit_nm = np.asarray(self.config.voxel_size_nm, np.float64)
        nearest, cleft_id = (np.inf, -1), 0
        for part in clefts:
            is_label = part.block.ids != 0
            if is_label.any():
                distance_nm, place, number = nearest_labelled(
                    part.numbers_xyz, is_label, part.offset_vx, size_vx, unit_nm
                )
                if place >= 0 and (distance_nm, place) < nearest:
                    nearest, cleft_id = (distance_nm, place), int(part.block.ids[number])
        if nearest[0] > self.config.max_cleft_distance_nm:
            found = f"the nearest is {nearest[0]:.0f} nm away" if cleft_id else "there is none in its chunk"
            raise RejectedError(
                f"no labelled cleft lies within {self.config.max_cleft_distance_nm:g} nm of its centre; {found}"
            )
        return cleft_id

    def _clear_cutouts(
        self, intensity_xyz: NDArray[np.uint8], lower_vx: NDArray[np.int64], size_vx: NDArray[np.int64]
    ) -> tuple[int, int]:
        """Zero the sections that are cut-outs; returns their number and that of padded voxels."""
        from synapseclr.volumes.cutting.masks import count_zeros

        start = np.maximum(lower_vx, self.em.layer.lower_vx) - lower_vx
        stop = np.minimum(lower_vx + size_vx, self.em.layer.upper_vx) - lower_vx
        in_plane_voxels = int((stop - start)[:2].prod())
        n_zero = np.zeros(size_vx[2], np.int64)
        count_zeros(intensity_xyz, n_zero)
        n_zero -= size_vx[0] * size_vx[1] - in_plane_voxels
        sections = np.arange(size_vx[2])
        is_inside = (sections >= start[2]) & (sections < stop[2])
        is_cutout = is_inside & (n_zero > self.config.cutout_zero_fraction * in_plane_voxels)
        if is_cutout.any():
            intensity_xyz[:, :, is_cutout] = 0
        return int(is_cutout.sum()), int(size_vx.prod() - (stop - start).prod())


def _parts(cache: BlockCache, lower_vx: NDArray[np.int64], size_vx: NDArray[np.int64]) -> Iterator[_Part]:
    for block in cache.blocks(cache.indices(lower_vx, size_vx)):
        in_chunk, in_block = [], []
        for block_lower, block_size, lower, size in zip(block.lower_vx, block.size_vx, lower_vx, size_vx, strict=True):
            start, stop = max(block_lower, int(lower)), min(block_lower + block_size, int(lower + size))
            in_chunk.append(slice(start - int(lower), stop - int(lower)))
            in_block.append(slice(start - block_lower, stop - block_lower))
        x, y, z = in_chunk
        i, j, k = in_block
        yield _Part(block, (x, y, z), (i, j, k))
