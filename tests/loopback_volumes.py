"""Small copies of public volumes: their layers, voxel sizes, encodings and tables, with synapses whose place is known.

One tissue is defined in nm and can be drawn at any voxel size: a lattice of cells, in each of which a presynaptic and a
postsynaptic neurite meet. In the postsynaptic half lie two partners, so that every presynaptic site has two synapses.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from cloudvolume import CloudVolume

CELL_NM, N_CELLS = 560, (3, 3, 3)
CORNER_NM = (8000, 16000, 3960)  # whole voxels of 4, 8, 16 nm, and of sections of 8, 33 and 40 nm
EXTENT_NM = np.array([1680, 1680, 1680])
FIRST_ID, FIRST_ROOT = 2**53 + 1_000_003, 720_575_940_600_000_000
GAP_NM = 24  # width of the cleft
CLASSES = ("acetylcholine", "gaba", "glutamate")
PERIOD_NM = {"acetylcholine": 64, "gaba": 112, "glutamate": 224}


@dataclass(frozen=True)
class Tissue:
    """The lattice; cell (i, j, k) has its own orientation, a presynaptic neurite of its row, and two partners."""

    polyadic: bool = False
    corner_nm: tuple[float, float, float] = CORNER_NM

    @cached_property
    def synapses(self) -> pd.DataFrame:
        """One row a pair: ids, points in nm, the presynaptic site's number, and the transmitter of its neurite."""
        rows = []
        for site, (i, j, k) in enumerate(np.ndindex(N_CELLS)):
            centre = np.array(self.corner_nm) + CELL_NM * (np.array([i, j, k]) + 0.5)
            axis = self.axis(i, j, k)
            for partner in range(2 if self.polyadic else 1):
                step = np.zeros(3)
                step[(axis + 1) % 3] = (2 * partner - 1) * 70 if self.polyadic else 0
                across = np.eye(3)[axis] * 60
                pre, post = centre - across, centre + across + step
                rows.append(
                    {
                        "site": site,
                        "pre": FIRST_ROOT + self.row(j, k),
                        "post": FIRST_ROOT + 1000 + 2 * site + partner,
                        **{f"pre_{name}": pre[d] for d, name in enumerate("xyz")},
                        **{f"post_{name}": post[d] for d, name in enumerate("xyz")},
                        "transmitter": CLASSES[self.row(j, k) % 3],
                    }
                )
        table = pd.DataFrame(rows)
        return table.assign(id=FIRST_ID + 7 * np.arange(len(table)))

    @staticmethod
    def row(j, k):
        return 1 + N_CELLS[2] * j + k

    @staticmethod
    def axis(i, j, k):
        return (i + j + k) % 3

    def draw(self, voxel_size_nm):
        """EM (uint8), segmentation (uint64) and clefts (uint64), each (x, y, z), at any voxel size."""
        size = np.asarray(voxel_size_nm, float)
        shape = np.round(EXTENT_NM / size).astype(int)
        em = np.full(shape, 150, np.float32)
        segmentation, clefts = np.zeros(shape, np.uint64), np.zeros(shape, np.uint64)
        for site, cell in enumerate(np.ndindex(N_CELLS)):
            low = np.ceil(np.multiply(cell, CELL_NM) / size - 0.5).astype(int)
            high = np.ceil(np.multiply(np.add(cell, 1), CELL_NM) / size - 0.5).astype(int)
            box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
            # place of every voxel's centre, from the centre of the cell
            places = [
                (np.arange(a, b) + 0.5) * s - (c + 0.5) * CELL_NM
                for a, b, s, c in zip(low, high, size, cell, strict=True)
            ]
            grid = np.meshgrid(*places, indexing="ij")
            axis = self.axis(*cell)
            across, along = grid[axis], grid[(axis + 1) % 3]
            inside = np.max(np.abs(grid), axis=0) < CELL_NM / 2 - 20
            pre, post = inside & (across < 0), inside & (across >= 0)
            segmentation[box][pre] = FIRST_ROOT + self.row(*cell[1:])
            segmentation[box][post] = FIRST_ROOT + 1000 + 2 * site
            if self.polyadic:
                segmentation[box][post & (along > 0)] = FIRST_ROOT + 1000 + 2 * site + 1
            off_axis = np.sqrt(np.sum(np.square(grid), axis=0) - np.square(across))
            # a section may be thicker than the cleft
            cleft = inside & (np.abs(across) <= max(GAP_NM, size[axis]) / 2) & (off_axis < 130)
            clefts[box][cleft] = FIRST_ID + 7 * site
            wave = 2 * np.pi / PERIOD_NM[CLASSES[self.row(*cell[1:]) % 3]]
            waves = np.cos(wave * across) * np.cos(wave * along)
            em[box] += np.where(pre, 40 * waves, 0)
            em[box][~inside] = 60
            em[box][cleft] = 30
        noise = np.random.default_rng(0).normal(0, 4, shape)
        return np.clip(em + noise, 1, 255).astype(np.uint8), segmentation, clefts


def write_layer(
    folder: Path, name: str, drawn: dict[tuple, np.ndarray], encoding: str, corner_nm: tuple = CORNER_NM
) -> str:
    """Write a layer as precomputed; a scale for every voxel size (nm) of what was drawn. Returns its address."""
    infos = [
        CloudVolume.create_new_info(
            num_channels=1,
            layer_type="segmentation" if encoding == "compressed_segmentation" else "image",
            data_type=str(array.dtype),
            encoding=encoding,
            resolution=list(size),
            voxel_offset=np.round(np.divide(corner_nm, size)).astype(int).tolist(),
            volume_size=array.shape,
            chunk_size=(64, 64, 64) if size[2] < 20 else (64, 64, 16),
        )
        for size, array in drawn.items()
    ]
    info = infos[0] | {"scales": [scale for each in infos for scale in each["scales"]]}
    url = f"file://{folder}/{name}"
    for mip, array in enumerate(drawn.values()):
        volume = CloudVolume(url, mip=mip, info=info, progress=False, compress="gzip", non_aligned_writes=True)
        volume.commit_info()
        volume[:, :, :] = array[..., np.newaxis]
    return f"{folder}/{name}"


def write_cremi(path: Path, tissue: Tissue, size_nm=(4, 4, 40)) -> str:
    """Write a file as CREMI publishes them: arrays (z, y, x), and points in nm from the corner of the volume."""
    em, segmentation, clefts = (array.T for array in tissue.draw(size_nm))
    clefts = np.where(clefts == 0, np.uint64(2**64 - 1), clefts)  # BigCat's mark of voxels without a label
    table = tissue.synapses
    with h5py.File(path, "w") as file:
        arrays = {"volumes/raw": em, "volumes/labels/neuron_ids": segmentation, "volumes/labels/clefts": clefts}
        for name, array in arrays.items():
            stored = file.create_dataset(name, data=array, chunks=(8, 64, 64), compression="gzip", compression_opts=1)
            stored.attrs["resolution"] = [float(v) for v in size_nm[::-1]]
        pre_id, post_id = 10 * table["site"] + 1, 10 * np.arange(len(table)) + 2
        points = {}
        for ids, side in ((pre_id, "pre"), (post_id, "post")):
            places = table[[f"{side}_{axis}" for axis in "zyx"]].to_numpy() - tissue.corner_nm[::-1]
            points |= dict(zip(ids, places, strict=True))
        file["annotations/ids"] = np.array(list(points), np.uint64)
        file["annotations/locations"] = np.array(list(points.values()))
        file["annotations/presynaptic_site/partners"] = np.stack([pre_id, post_id], axis=1).astype(np.uint64)
    return str(path)


def _triples(table, side, unit_nm):
    points = table[[f"{side}_{axis}" for axis in "xyz"]].to_numpy() / np.asarray(unit_nm, float)
    return [list(point) for point in points.round().astype(int)]


def _columns(table, names, unit_nm=(1, 1, 1)):
    """Coordinates by the names of their columns, as `{side}` and `{axis}` make them."""
    return {
        names.format(side=side, axis=axis): table[f"{side}_{axis}"] / unit_nm[d]
        for side in ("pre", "post")
        for d, axis in enumerate("xyz")
    }


def as_cave(table, unit_nm=(4, 4, 40)):
    """synapses_pni_2: centres in voxels; the id is the id of the cleft."""
    centre = (table[["pre_x", "pre_y", "pre_z"]].to_numpy() + table[["post_x", "post_y", "post_z"]].to_numpy()) / 2
    return pd.DataFrame(
        {
            "id": table["id"],
            "valid": True,
            "pre_pt_supervoxel_id": table["pre"] - 2**58,
            "pre_pt_root_id": table["pre"],
            "post_pt_supervoxel_id": table["post"] - 2**58,
            "post_pt_root_id": table["post"],
            "ctr_pt_position": [list(point) for point in (centre / unit_nm).round().astype(int)],
            "size": 100,
        }
    )


def as_buhmann(table):
    """synapses_nt_v1 of FlyWire: a point on either side, in nm, and probabilities of transmitters."""
    short = {
        "gaba": "gaba",
        "acetylcholine": "ach",
        "glutamate": "glut",
        "octopamine": "oct",
        "serotonin": "ser",
        "dopamine": "da",
    }
    return pd.DataFrame(
        {
            "id": table["id"],
            "pre_pt_root_id": table["pre"],
            "post_pt_root_id": table["post"],
            "pre_pt_position": _triples(table, "pre", (1, 1, 1)),
            "post_pt_position": _triples(table, "post", (1, 1, 1)),
            "connection_score": 50.0,
            "cleft_score": 140,
            **{column: np.where(table["transmitter"] == name, 0.9, 0.02) for name, column in short.items()},
            "valid_nt": True,
        }
    )


def as_sjcabs(table):
    """The parquet files of the sjcabs releases: presynaptic points in nm, and the transmitter."""
    return pd.DataFrame(
        {
            "connector_id": FIRST_ID + table["site"],
            **{axis: table[f"pre_{axis}"] for axis in "xyz"},
            "prepost": 0,
            "pre": table["pre"],
            "post": table["post"],
            "syn_top_nt": table["transmitter"],
            "cleft_scores": 140,
        }
    )


def as_neuprint(table):
    """fetch_synapse_connections of neuprint-python."""
    return pd.DataFrame(
        {
            "bodyId_pre": table["pre"],
            "bodyId_post": table["post"],
            "roi_pre": "EB",
            "roi_post": "EB",
            **_columns(table, "{axis}_{side}", (8, 8, 8)),
            "confidence_pre": 0.9,
            "confidence_post": 0.8,
        }
    )


def as_flyem(table):
    """syn-partners of a FlyEM flat connectome."""
    return pd.DataFrame(
        {
            **_columns(table, "{axis}_{side}", (8, 8, 8)),
            "body_pre": table["pre"],
            "body_post": table["post"],
            "conf_pre": 0.9,
            "conf_post": 0.8,
            "primary_post": "EB",
        }
    )


def as_h01(table):
    """The export of H01, its records flattened; centres in voxels of 8 x 8 x 33 nm."""
    centre = (table[["pre_x", "pre_y", "pre_z"]].to_numpy() + table[["post_x", "post_y", "post_z"]].to_numpy()) / 2
    voxel = (centre / (8, 8, 33)).round().astype(int)
    return pd.DataFrame(
        {
            "pre_synaptic_site.neuron_id": table["pre"],
            "post_synaptic_partner.neuron_id": table["post"],
            **{f"location.{axis}": voxel[:, d] for d, axis in enumerate("xyz")},
            "type": 1,
            "contact_area": 0.05,
            "confidence": 0.9,
        }
    )
