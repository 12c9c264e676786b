"""One synapse: its chunk, put together from the storage blocks that it touches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.volumes.layers.boxes import Part, parts_of, request_box, write_intensity
from synapseclr.volumes.store.shards import MASK_CODES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synapseclr.volumes.config import PreprocessingConfig
    from synapseclr.volumes.layers.blocks import BlockCache

_SIDES = ("pre_synaptic_neuron", "post_synaptic_neuron")


_WHOLLY = 0.999  # share of zeros of a section that is black as a whole
NO_CLEFT = "no labelled cleft lies within"


class RejectedError(Exception):
    """A synapse cannot be cut; the message is the reason that is kept."""


@dataclass(frozen=True)
class Examination:
    """Surroundings of a synapse.

    Attributes:
        chunk_cxyz: uint8 (2, x, y, z), intensity and mask codes, zero outside of the volume.
        cleft_distance_nm: From the centre to the nearest labelled cleft; infinite if there is none in the chunk.
        has_pre: Whether its presynaptic neurite is in the chunk.
        has_post: Whether its postsynaptic neurite is in the chunk.
        ids_near: Ids of the segmentation's blocks that the chunk touches.
        n_constant_sections: Sections inside of the volume whose voxels are equal, black ones among them.
        n_sections: Sections inside of the volume.
    """

    chunk_cxyz: NDArray[np.uint8]
    cleft_distance_nm: float
    has_pre: bool
    has_post: bool
    ids_near: list[NDArray[Any]]
    n_constant_sections: int
    n_sections: int


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
            request_box(cache, lower_vx, size_vx)

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
        bounds = self.em.layer
        if not self.is_inside(centre_vx):
            raise RejectedError(
                f"its centre, voxel {centre_vx.tolist()}, lies outside of the EM volume "
                f"({bounds.lower_vx.tolist()} to {bounds.upper_vx.tolist()})"
            )
        lower_vx, size_vx = self._box(centre_vx)
        clefts = list(parts_of(self.cleft, lower_vx, size_vx))
        distance_nm, cleft_id = self._nearest_cleft(clefts, size_vx)
        if distance_nm > self.config.max_cleft_distance_nm:
            found = f"the nearest is {distance_nm:.0f} nm away" if cleft_id else "there is none in its chunk"
            raise RejectedError(f"{NO_CLEFT} {self.config.max_cleft_distance_nm:g} nm of its centre; {found}")
        chunk_cxyz = np.zeros((2, *size_vx), np.uint8)
        intensity_xyz, mask_xyz = chunk_cxyz
        self._write_neurites(mask_xyz, lower_vx, pre_root_id, post_root_id)
        _write_cleft(mask_xyz, clefts, cleft_id)
        write_intensity(self.em, lower_vx, intensity_xyz, self.config.cutout_zero_fraction)
        n_cutout, n_padded = self._clear_cutouts(intensity_xyz, lower_vx, size_vx)
        return chunk_cxyz, {"cleft_id": cleft_id, "n_cutout_sections": n_cutout, "n_padded_voxels": n_padded}

    def examine(
        self, centre_vx: NDArray[np.int64], pre_root_id: int, post_root_id: int, with_em: bool = True
    ) -> Examination:
        """Look at the surroundings of a synapse, even of one that cannot be cut.

        Args:
            centre_vx: Its centre (x, y, z); one outside of the EM volume has nothing around it.
            pre_root_id: Root id of the presynaptic neuron; 0 is none.
            post_root_id: Root id of the postsynaptic neuron; 0 is none.
            with_em: Whether to read the EM too.

        Raises:
            VolumeError: If a storage block cannot be read.
        """
        from synapseclr.volumes.voxel_loops import count_constant_sections

        lower_vx, size_vx = self._box(centre_vx)
        clefts = list(parts_of(self.cleft, lower_vx, size_vx))
        distance_nm, cleft_id = self._nearest_cleft(clefts, size_vx)
        chunk_cxyz = np.zeros((2, *size_vx), np.uint8)
        intensity_xyz, mask_xyz = chunk_cxyz
        ids_near = self._write_neurites(mask_xyz, lower_vx, pre_root_id, post_root_id)
        has_pre, has_post = ((mask_xyz == MASK_CODES[name]).any() for name in _SIDES)
        if pre_root_id == post_root_id:
            has_post = has_pre
        n_constant, n_sections = 0, 0
        if with_em:
            write_intensity(self.em, lower_vx, intensity_xyz, _WHOLLY)
            n_constant, n_black = count_constant_sections(intensity_xyz)
            start, stop = lower_vx[2], lower_vx[2] + size_vx[2]
            n_sections = min(stop, self.em.layer.upper_vx[2]) - max(start, self.em.layer.lower_vx[2])
            n_constant += n_black - (size_vx[2] - n_sections)
        if cleft_id:
            _write_cleft(mask_xyz, clefts, cleft_id)
        return Examination(
            chunk_cxyz, distance_nm, bool(has_pre), bool(has_post), ids_near, int(n_constant), int(n_sections)
        )

    def is_inside(self, centre_vx: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell whether centres (..., 3) lie in the EM volume."""
        bounds = self.em.layer
        return np.asarray(((centre_vx >= bounds.lower_vx) & (centre_vx < bounds.upper_vx)).all(axis=-1))

    def _write_neurites(
        self, mask_xyz: NDArray[np.uint8], lower_vx: NDArray[np.int64], pre_root_id: int, post_root_id: int
    ) -> list[NDArray[Any]]:
        """Write the codes of both sides, presynaptic over postsynaptic; returns the ids of all blocks touched."""
        from synapseclr.volumes.voxel_loops import write_codes

        ids_near = []
        for part in parts_of(self.segmentation, lower_vx, np.asarray(mask_xyz.shape, np.int64)):
            code_of_number = np.zeros(len(part.block.ids), np.uint8)
            for root_id, name in ((post_root_id, _SIDES[1]), (pre_root_id, _SIDES[0])):
                if root_id:
                    code_of_number[part.block.ids == root_id] = MASK_CODES[name]
            if code_of_number.any():
                write_codes(mask_xyz[part.in_box], part.numbers_xyz, code_of_number)
            ids_near.append(part.block.ids)
        return ids_near

    def _box(self, centre_vx: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        size_vx = np.asarray(self.config.chunk_size_vx, np.int64)
        return centre_vx - size_vx // 2, size_vx

    def _nearest_cleft(self, clefts: list[Part], size_vx: NDArray[np.int64]) -> tuple[float, int]:
        """Find the cleft whose nearest voxel lies closest to the chunk's centre: distance in nm, and id; inf and 0."""
        from synapseclr.volumes.voxel_loops import nearest_labelled

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
        return float(nearest[0]), cleft_id

    def _clear_cutouts(
        self, intensity_xyz: NDArray[np.uint8], lower_vx: NDArray[np.int64], size_vx: NDArray[np.int64]
    ) -> tuple[int, int]:
        """Zero the sections that are cut-outs; returns their number and that of padded voxels."""
        from synapseclr.volumes.voxel_loops import count_zeros

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


def _write_cleft(mask_xyz: NDArray[np.uint8], clefts: list[Part], cleft_id: int) -> None:
    from synapseclr.volumes.voxel_loops import write_codes

    for part in clefts:
        code_of_number = (part.block.ids == cleft_id).astype(np.uint8) * np.uint8(MASK_CODES["synaptic_cleft"])
        if code_of_number.any():
            write_codes(mask_xyz[part.in_box], part.numbers_xyz, code_of_number)
