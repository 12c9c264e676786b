"""One synapse: its chunk, put together from the storage blocks that it touches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.volumes.layers.boxes import Part, parts_of, request_box, write_intensity
from synapseclr.volumes.painted_clefts import paint_cleft
from synapseclr.volumes.store.shards import MASK_CODES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synapseclr.volumes.config import PreprocessingConfig
    from synapseclr.volumes.layers.blocks import BlockCache

_SIDES = ("pre_synaptic_neuron", "post_synaptic_neuron")


_WHOLLY = 0.999  # share of zeros of a section that is black as a whole
NO_CLEFT = "no labelled cleft lies within"
NO_CONTACT = "its two segments do not touch within"
PAINTED = 2**64 - 1
"""Id of the cleft, in the record of a chunk whose cleft was painted."""


class RejectedError(Exception):
    """A synapse cannot be cut; the message is the reason that is kept."""


@dataclass(frozen=True)
class Site:
    """A synapse as the table has it.

    Attributes:
        centre_vx: Voxel of its centre (x, y, z).
        pre_root_id: Root id of the presynaptic neuron; 0 is none.
        post_root_id: Root id of the postsynaptic neuron; 0 is none.
        synapse_id: Its id, which may be that of its cleft.
        points_vx: Its presynaptic and its postsynaptic point, float (2, 3), in voxels whose centres are whole numbers;
            None: not known, the centre is taken for both.
    """

    centre_vx: NDArray[np.int64]
    pre_root_id: int
    post_root_id: int
    synapse_id: int = 0
    points_vx: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class _Cleft:
    """The cleft of a synapse in its chunk.

    Attributes:
        distance_nm: From the chunk's centre to its nearest voxel; infinite if there is none.
        cleft_id: Its label, ``PAINTED``, or 0 if there is none.
        parts: Parts of the cleft layer; none where it is painted.
        is_painted_xyz: The painted voxels; None where it is labelled.
        has_own_id: Whether a label with the id of the synapse lies in the chunk.
    """

    distance_nm: float
    cleft_id: int
    parts: list[Part]
    is_painted_xyz: NDArray[np.bool_] | None = None
    has_own_id: bool = False


@dataclass(frozen=True)
class Examination:
    """Surroundings of a synapse.

    Attributes:
        chunk_cxyz: uint8 (2, x, y, z), intensity and mask codes, zero outside of the volume.
        cleft_distance_nm: From the centre to the synapse's cleft; infinite if there is none in the chunk.
        has_own_cleft: Whether a cleft with the id of the synapse lies in the chunk.
        has_pre: Whether its presynaptic neurite is in the chunk.
        has_post: Whether its postsynaptic neurite is in the chunk.
        ids_near: Ids of the segmentation's blocks that the chunk touches.
        n_constant_sections: Sections inside of the volume whose voxels are equal, black ones among them.
        n_sections: Sections inside of the volume.
    """

    chunk_cxyz: NDArray[np.uint8]
    cleft_distance_nm: float
    has_own_cleft: bool
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
        cleft: Blocks of cleft ids; None where clefts are painted.
        config: Sizes and limits.
    """

    em: BlockCache
    segmentation: BlockCache
    cleft: BlockCache | None
    config: PreprocessingConfig

    def request(self, centre_vx: NDArray[np.int64]) -> None:
        """Begin to fetch the blocks of a synapse in the background."""
        lower_vx, size_vx = self._box(centre_vx)
        for cache in (self.cleft, self.segmentation, self.em):
            if cache is not None:
                request_box(cache, lower_vx, size_vx)

    def cut(self, site: Site) -> tuple[NDArray[np.uint8], dict[str, int]]:
        """Cut one synapse.

        Args:
            site: The synapse.

        Returns:
            uint8 (2, x, y, z), intensity and mask codes; and ``cleft_id, n_cutout_sections, n_padded_voxels``.

        Raises:
            RejectedError: If its centre is outside, or no cleft is near it.
            VolumeError: If a storage block cannot be read.
        """
        bounds, limit_nm = self.em.layer, self.config.max_cleft_distance_nm
        if not self.is_inside(site.centre_vx):
            raise RejectedError(
                f"its centre, voxel {site.centre_vx.tolist()}, lies outside of the EM volume "
                f"({bounds.lower_vx.tolist()} to {bounds.upper_vx.tolist()})"
            )
        lower_vx, size_vx = self._box(site.centre_vx)
        chunk_cxyz = np.zeros((2, *size_vx), np.uint8)
        intensity_xyz, mask_xyz = chunk_cxyz
        if self.cleft is not None:  # before the segmentation is read
            cleft = self._labelled_cleft(self.cleft, site)
            self._check_distance(cleft, site)
            self._write_neurites(mask_xyz, lower_vx, site.pre_root_id, site.post_root_id)
        else:
            self._write_neurites(mask_xyz, lower_vx, site.pre_root_id, site.post_root_id)
            cleft = self._painted_cleft(mask_xyz, site)
            if cleft.distance_nm > limit_nm:
                raise RejectedError(f"{NO_CONTACT} {limit_nm:g} nm of its centre, so that no cleft can be painted")
        _write_cleft(mask_xyz, cleft)
        write_intensity(self.em, lower_vx, intensity_xyz, self.config.cutout_zero_fraction)
        n_cutout, n_padded = self._clear_cutouts(intensity_xyz, lower_vx, size_vx)
        return chunk_cxyz, {"cleft_id": cleft.cleft_id, "n_cutout_sections": n_cutout, "n_padded_voxels": n_padded}

    def examine(self, site: Site, with_em: bool = True) -> Examination:
        """Look at the surroundings of a synapse, even of one that cannot be cut.

        Args:
            site: The synapse; one outside of the EM volume has nothing around it.
            with_em: Whether to read the EM too.

        Raises:
            VolumeError: If a storage block cannot be read.
        """
        from synapseclr.volumes.voxel_loops import count_constant_sections

        lower_vx, size_vx = self._box(site.centre_vx)
        chunk_cxyz = np.zeros((2, *size_vx), np.uint8)
        intensity_xyz, mask_xyz = chunk_cxyz
        ids_near = self._write_neurites(mask_xyz, lower_vx, site.pre_root_id, site.post_root_id)
        has_pre, has_post = ((mask_xyz == MASK_CODES[name]).any() for name in _SIDES)
        if site.pre_root_id == site.post_root_id:
            has_post = has_pre
        n_constant, n_sections = 0, 0
        if with_em:
            write_intensity(self.em, lower_vx, intensity_xyz, _WHOLLY)
            n_constant, n_black = count_constant_sections(intensity_xyz)
            start, stop = lower_vx[2], lower_vx[2] + size_vx[2]
            n_sections = min(stop, self.em.layer.upper_vx[2]) - max(start, self.em.layer.lower_vx[2])
            n_constant += n_black - (size_vx[2] - n_sections)
        cache = self.cleft
        cleft = self._painted_cleft(mask_xyz, site) if cache is None else self._labelled_cleft(cache, site)
        if cleft.cleft_id:
            _write_cleft(mask_xyz, cleft)
        return Examination(
            chunk_cxyz,
            cleft.distance_nm,
            cleft.has_own_id,
            bool(has_pre),
            bool(has_post),
            ids_near,
            int(n_constant),
            int(n_sections),
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

    def _labelled_cleft(self, cache: BlockCache, site: Site) -> _Cleft:
        """Find the cleft of a synapse: the nearest one, or that with its id (``preprocessing.cleft_match``)."""
        lower_vx, size_vx = self._box(site.centre_vx)
        parts = list(parts_of(cache, lower_vx, size_vx))
        may_be_there = site.synapse_id and any((part.block.ids == site.synapse_id).any() for part in parts)
        own = self._nearest_cleft(parts, size_vx, site.synapse_id) if may_be_there else (np.inf, 0)
        match, has_own_id = self.config.cleft_match, own[1] != 0
        if match == "id" or (match == "auto" and own[0] <= self.config.max_cleft_distance_nm):
            return _Cleft(*own, parts, has_own_id=has_own_id)
        return _Cleft(*self._nearest_cleft(parts, size_vx), parts, has_own_id=has_own_id)

    def _painted_cleft(self, mask_xyz: NDArray[np.uint8], site: Site) -> _Cleft:
        """Paint a cleft at the contact of the two segments of a chunk."""
        lower_vx, size_vx = self._box(site.centre_vx)
        points_vx = np.stack([site.centre_vx] * 2) if site.points_vx is None else site.points_vx
        pre, post = (mask_xyz == MASK_CODES[name] for name in _SIDES)
        unit_nm = self.config.voxel_size_nm
        lengths_nm = self.config.cleft_thickness_nm, self.config.cleft_radius_nm
        is_painted_xyz = paint_cleft(pre, post, points_vx[0] - lower_vx, points_vx[1] - lower_vx, unit_nm, *lengths_nm)
        places_n3 = np.argwhere(is_painted_xyz)
        if not len(places_n3):
            return _Cleft(np.inf, 0, [], is_painted_xyz)
        distance_nm = np.linalg.norm((places_n3 - size_vx // 2) * np.asarray(unit_nm), axis=1).min()
        return _Cleft(float(distance_nm), PAINTED, [], is_painted_xyz)

    def _check_distance(self, cleft: _Cleft, site: Site) -> None:
        """Reject a synapse whose cleft is too far away, or not there."""
        limit_nm = self.config.max_cleft_distance_nm
        if cleft.distance_nm <= limit_nm:
            return
        is_own = self.config.cleft_match == "id"
        if cleft.cleft_id:
            found = f"the {'one of its id' if is_own else 'nearest'} is {cleft.distance_nm:.0f} nm away"
        else:
            found = f"there is none{f' of the id {site.synapse_id}' if is_own else ''} in its chunk"
        raise RejectedError(f"{NO_CLEFT} {limit_nm:g} nm of its centre; {found}")

    def _nearest_cleft(
        self, clefts: list[Part], size_vx: NDArray[np.int64], only_id: int | None = None
    ) -> tuple[float, int]:
        """Find the cleft whose nearest voxel lies closest to the chunk's centre: distance in nm, and id; inf and 0.

        Args:
            clefts: Parts of the cleft layer.
            size_vx: Of the chunk.
            only_id: Id of the one that counts; None: all do.
        """
        from synapseclr.volumes.voxel_loops import nearest_labelled

        unit_nm = np.asarray(self.config.voxel_size_nm, np.float64)
        nearest, cleft_id = (np.inf, -1), 0
        for part in clefts:
            is_label = part.block.ids != 0 if only_id is None else part.block.ids == only_id
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


def _write_cleft(mask_xyz: NDArray[np.uint8], cleft: _Cleft) -> None:
    from synapseclr.volumes.voxel_loops import write_codes

    if cleft.is_painted_xyz is not None:
        mask_xyz[cleft.is_painted_xyz] = MASK_CODES["synaptic_cleft"]
    for part in cleft.parts:
        code_of_number = (part.block.ids == cleft.cleft_id).astype(np.uint8) * np.uint8(MASK_CODES["synaptic_cleft"])
        if code_of_number.any():
            write_codes(mask_xyz[part.in_box], part.numbers_xyz, code_of_number)
