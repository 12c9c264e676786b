"""The simulation as a whole: from a configuration to volumes and tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from synapseclr.simulation.config import SimulationConfig
from synapseclr.simulation.geometry import EXCITATORY, Floats, Neurite, Site, ball
from synapseclr.volumes.table_schema import ID, Column, TableSchema

FIRST_ROOT_ID = 648518346349500000
FEWEST_MITO_VX = 25
INHIBITORY_SUBTYPES = ("basket", "chandelier", "martinotti", "bipolar", "neurogliaform")
TRAITS = (
    "cleft_size_vx",
    "presyn_soma_dist_um",
    "postsyn_soma_dist_um",
    "n_mitos_pre",
    "n_mitos_post",
    "mito_size_pre_vx",
    "mito_size_post_vx",
    "pre_cell_type",
    "post_cell_type",
)

Progress = Callable[[str, float], None]
STAGES = (
    "lay out neurites",
    "route axons",
    "fill space",
    "paint ultrastructure",
    "measure traits",
    "expose sections",
    "spoil and tabulate",
)
"""Stages that :func:`simulate` reports, in their order."""


NEURITE_TABLE = TableSchema("The neurite table", {"root_id": Column("root_id", unique=True)})
SIMULATION_TRUTH = TableSchema(
    "The truth of the simulation", {"synapse_id": ID, **{f"centre_{axis}_nm": Column() for axis in "xyz"}}
)


@dataclass(frozen=True)
class SimulatedVolume:
    """A segmented EM volume, the tables that a release would carry, and the truth behind them.

    Attributes:
        em_xyz: Grey levels; 0 is missing data. uint8, shape (x, y, z).
        segmentation_xyz: Neurite (root id) of each voxel, 0 unsegmented. uint64, shape (x, y, z).
        cleft_xyz: Cleft of each voxel, with ids of their own, 0 elsewhere. uint32, shape (x, y, z).
        synapse_table: `id, pre_root_id, post_root_id, ctr_pos_{x,y,z}_vx`, in random order.
        annotation_table: `syn_id` and the traits of some synapses, with missing values.
        neurite_table: `root_id, kind, cell_type, cell_subtype, soma_dist_um, n_synapses`.
        truth_table: `synapse_id`, all traits of all synapses, `defect`, and the true geometry.
        voxel_size_nm: Voxel size (x, y, z) in nm.
    """

    em_xyz: NDArray[np.uint8]
    segmentation_xyz: NDArray[np.uint64]
    cleft_xyz: NDArray[np.uint32]
    synapse_table: pd.DataFrame
    annotation_table: pd.DataFrame
    neurite_table: pd.DataFrame
    truth_table: pd.DataFrame
    voxel_size_nm: tuple[float, float, float]


def simulate(config: SimulationConfig, progress: Progress | None = None) -> SimulatedVolume:
    """Simulate a segmented EM volume with known synapses, cell types, traits and defects.

    Args:
        config: What to simulate.
        progress: Called with a stage of ``STAGES`` and the share of that stage that is done.

    Returns:
        Volumes and tables; the same configuration gives the same bits.
    """
    from synapseclr.simulation import imaging, neurites, organelles, synapses
    from synapseclr.simulation.geometry import Capsules
    from synapseclr.simulation.territory import paint_territory

    def report(stage: str) -> None:
        if progress is not None:
            progress(stage, 0.0)

    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(config.seed).spawn(11)]
    size_nm, style = np.array(config.voxel_size_nm), config.style

    report("lay out neurites")
    spiny = neurites.grow_dendrites(config, streams[0])
    sites = neurites.place_sites(config, spiny, streams[1])
    axon_list, fillers = neurites.grow_axons(config, sites, len(spiny) + 1, streams[2])
    report("route axons")
    neurites.route(spiny, axon_list, fillers, sites)
    everyone = [*spiny, *axon_list, *fillers]

    report("fill space")
    chains = [(neurite.points_nm, neurite.radii_nm, neurite.index) for neurite in everyone]
    chains += [(points, radii, neurite.index) for neurite in everyone for points, radii in neurite.branches]
    tiny = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    chains += [(site.bouton_nm + tiny, np.full(2, site.bouton_radius_nm), site.axon) for site in sites if site.axon]
    territory = paint_territory(Capsules.from_chains(chains), config.shape_vx, size_nm, streams[3])

    report("paint ultrastructure")
    image_zyx = imaging.paint_cytoplasm(territory, len(everyone), style, streams[3])
    if config.signature == "texture":
        imaging.paint_grain(territory, [*spiny, *axon_list], style.blur_nm, image_zyx, streams[10])
    organelles.paint_tubules(organelles.place_tubules(spiny, streams[4]), territory, image_zyx, style)
    mito_capsules, homes = organelles.place_mitochondria(config, everyone, sites, streams[4])
    mito_zyx = organelles.paint_mitochondria(mito_capsules, homes, territory, image_zyx, config.seed, style)
    if config.signature == "texture":
        look = synapses.draw_arrangement(sites, everyone, streams[5])
    else:
        look = synapses.draw_morphology(sites, streams[5])
    label_zyx, verified = synapses.paint_contacts(sites, look, territory, image_zyx, style, streams[5])
    synapses.paint_vesicles(sites, verified, look, territory, mito_zyx, image_zyx, style, streams[6])
    segment_zyx = territory.owner_zyx
    del territory

    report("measure traits")
    tables = streams[7]
    kept = tables.permutation(np.flatnonzero(verified))
    real = [sites[k] for k in kept]
    measured = measure_traits(real, kept + 1, everyone, segment_zyx, mito_zyx, label_zyx, config)
    del mito_zyx

    em_zyx = imaging.expose_sections(image_zyx, style, config.voxel_size_nm, streams[8], progress)
    del image_zyx
    imaging.cut_out_sections(em_zyx, config.cutout_section_fraction, streams[8])
    report("spoil and tabulate")
    spoiled = imaging.draw_defects(real, config.defect_fraction, streams[9])
    for defect, site, k in zip(spoiled, real, kept, strict=True):
        if defect:
            spared = imaging.neighbours(site, real)
            where = (em_zyx, segment_zyx, label_zyx, size_nm)
            imaging.apply_defect(defect, site, int(k) + 1, *where, streams[9], spared)

    synapse_ids = tables.permutation(np.arange(10_000, max(100_000, 10_000 + 4 * len(real))))[: len(real)]
    cleft_ids = np.zeros(len(sites) + 1, np.uint32)
    first_cleft = int(synapse_ids.max(initial=0)) + 1
    cleft_ids[1:] = tables.permutation(np.arange(first_cleft, first_cleft + len(sites)))
    root_ids = draw_root_ids(len(everyone), tables)
    truth = pd.concat([measured, pd.Series(spoiled, name="defect", dtype=object), describe_geometry(real)], axis=1)
    truth.insert(0, "synapse_id", synapse_ids)
    return SimulatedVolume(
        em_xyz=em_zyx.transpose(2, 1, 0),
        segmentation_xyz=root_ids[segment_zyx].transpose(2, 1, 0),
        cleft_xyz=cleft_ids[label_zyx].transpose(2, 1, 0),
        synapse_table=tabulate_synapses(real, synapse_ids, root_ids, config, tables),
        annotation_table=tabulate_annotations(truth, config, tables),
        neurite_table=tabulate_neurites(everyone, real, root_ids, tables),
        truth_table=truth,
        voxel_size_nm=config.voxel_size_nm,
    )


def draw_root_ids(n_neurites: int, rng: np.random.Generator) -> NDArray[np.uint64]:
    """Segment ids by neurite index: 0 for the remainder, then 64-bit ids too long and too close for float64."""
    order = rng.permutation(n_neurites).astype(np.uint64)
    return np.concatenate([np.zeros(1, np.uint64), np.uint64(FIRST_ROOT_ID) + order])


def measure_traits(
    sites: list[Site],
    labels: NDArray[np.int64],
    neurites: list[Neurite],
    owner_zyx: NDArray[np.int16],
    mito_zyx: NDArray[np.uint16],
    cleft_zyx: NDArray[np.int32],
    config: SimulationConfig,
) -> pd.DataFrame:
    """Read every synapse's traits from the painted truth, before defects.

    Args:
        sites: Verified sites.
        labels: Label of each site in `cleft_zyx`.
        neurites: All neurites, in order of index.
        owner_zyx: True neurite of each voxel.
        mito_zyx: Mitochondrion of each voxel.
        cleft_zyx: True cleft labels.
        config: What was simulated.

    Returns:
        One row per site with the columns `TRAITS`.
    """
    cleft_sizes = np.bincount(cleft_zyx.ravel(), minlength=int(labels.max(initial=0)) + 1)
    size_nm = np.array(config.voxel_size_nm)
    rows = []
    for site, label in zip(sites, labels, strict=True):
        axon, dendrite = neurites[site.axon - 1], neurites[site.dendrite - 1]
        window, inside = ball(site.centre_nm, config.trait_radius_nm, owner_zyx.shape, size_nm)
        owner, mito = owner_zyx[window][inside], mito_zyx[window][inside]
        n_pre, size_pre = _count_mitos(mito[owner == site.axon])
        n_post, size_post = _count_mitos(mito[owner == site.dendrite])
        along = int(np.linalg.norm(axon.points_nm - site.bouton_nm, axis=1).argmin())
        rows.append(
            (
                float(cleft_sizes[label]),
                axon.soma_dist_um + float(axon.arc_length_nm()[along]) / 1000,
                dendrite.soma_dist_um + site.arc_nm / 1000,
                float(n_pre),
                float(n_post),
                float(size_pre),
                float(size_post),
                float(axon.cell_type),
                float(dendrite.cell_type),
            )
        )
    return pd.DataFrame(rows, columns=list(TRAITS), dtype=np.float64)


def _count_mitos(mito: NDArray[np.uint16]) -> tuple[int, int]:
    """Number and joint voxel count of the mitochondria that are more than slivers."""
    counts = np.bincount(mito[mito > 0])
    counts = counts[counts >= FEWEST_MITO_VX]
    return int(counts.size), int(counts.sum())


def tabulate_synapses(
    sites: list[Site],
    synapse_ids: NDArray[np.int64],
    root_ids: NDArray[np.uint64],
    config: SimulationConfig,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """The synapse table: ids, partners, and integer positions that miss the true centre by a little."""
    size_nm = np.array(config.voxel_size_nm)
    centres = np.array([site.centre_nm for site in sites]).reshape(-1, 3)
    centres = centres + rng.normal(0, config.centre_jitter_nm, centres.shape)
    voxels = np.clip(np.floor(centres / size_nm), 0, np.array(config.shape_vx) - 1).astype(np.int64)
    table: dict[str, NDArray[np.generic]] = {"id": synapse_ids}
    table["pre_root_id"] = root_ids[[site.axon for site in sites]] if sites else np.zeros(0, np.uint64)
    table["post_root_id"] = root_ids[[site.dendrite for site in sites]] if sites else np.zeros(0, np.uint64)
    return pd.DataFrame(table | {f"ctr_pos_{axis}_vx": voxels[:, k] for k, axis in enumerate("xyz")})


def tabulate_annotations(truth: pd.DataFrame, config: SimulationConfig, rng: np.random.Generator) -> pd.DataFrame:
    """The annotation table: the truth of some synapses, with holes."""
    n = round(config.annotated_fraction * len(truth))
    chosen = rng.permutation(len(truth))[:n]
    table = truth.iloc[chosen][list(TRAITS)].reset_index(drop=True)
    table = table.mask(rng.uniform(size=table.shape) < config.missing_annotation_fraction)
    table.insert(0, "syn_id", truth["synapse_id"].to_numpy()[chosen])
    return table


def tabulate_neurites(
    neurites: list[Neurite], sites: list[Site], root_ids: NDArray[np.uint64], rng: np.random.Generator
) -> pd.DataFrame:
    """The neurite table, fillers included (as axons without synapses)."""
    n_synapses = np.zeros(len(neurites) + 1, np.int64)
    for site in sites:
        n_synapses[[site.axon, site.dendrite]] += 1
    subtypes = []
    for neurite in neurites:
        guess = "pyramidal" if neurite.cell_type == EXCITATORY else str(rng.choice(INHIBITORY_SUBTYPES))
        subtypes.append("unknown" if rng.uniform() < 0.08 else guess)
    table = pd.DataFrame(
        {
            "root_id": root_ids[1:],
            "kind": ["dendrite" if neurite.kind == "dendrite" else "axon" for neurite in neurites],
            "cell_type": np.array([neurite.cell_type for neurite in neurites], np.int64),
            "cell_subtype": subtypes,
            "soma_dist_um": np.array([neurite.soma_dist_um for neurite in neurites]),
            "n_synapses": n_synapses[1:],
        }
    )
    return table.sort_values("root_id", ignore_index=True)


def describe_geometry(sites: list[Site]) -> pd.DataFrame:
    """True place and orientation of each synapse: centre in nm, unit normal from pre to post, target."""
    centres: Floats = np.array([site.centre_nm for site in sites]).reshape(-1, 3)
    normals: Floats = np.array([site.normal for site in sites]).reshape(-1, 3)
    columns: dict[str, object] = {f"centre_{axis}_nm": centres[:, k] for k, axis in enumerate("xyz")}
    columns |= {f"normal_{axis}": normals[:, k] for k, axis in enumerate("xyz")}
    return pd.DataFrame(columns | {"post_target": [site.target for site in sites]})
