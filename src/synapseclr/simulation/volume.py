"""The simulation as a whole: from a configuration to volumes and tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from synapseclr.simulation.config import SimulationConfig

if TYPE_CHECKING:
    import pandas as pd
from synapseclr.volumes.table_schema import ID, Column, TableSchema

Progress = Callable[[str, float], None]


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
        progress: Called with a stage name and the share of that stage that is done.

    Returns:
        Volumes and tables; the same configuration gives the same bits.
    """
    import pandas as pd

    from synapseclr.simulation import axons, contacts, defects, dendrites, imaging, organelles, traits, vesicles
    from synapseclr.simulation.geometry import Capsules
    from synapseclr.simulation.painting import paint_territory

    def report(stage: str) -> None:
        if progress is not None:
            progress(stage, 0.0)

    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(config.seed).spawn(11)]
    size_nm, style = np.array(config.voxel_size_nm), config.style

    report("lay out neurites")
    spiny = dendrites.grow_dendrites(config, streams[0])
    sites = dendrites.place_sites(config, spiny, streams[1])
    axon_list, fillers = axons.grow_axons(config, sites, len(spiny) + 1, streams[2])
    report("route axons")
    axons.route(spiny, axon_list, fillers, sites)
    neurites = [*spiny, *axon_list, *fillers]

    report("fill space")
    chains = [(neurite.points_nm, neurite.radii_nm, neurite.index) for neurite in neurites]
    chains += [(points, radii, neurite.index) for neurite in neurites for points, radii in neurite.branches]
    tiny = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    chains += [(site.bouton_nm + tiny, np.full(2, site.bouton_radius_nm), site.axon) for site in sites if site.axon]
    territory = paint_territory(Capsules.from_chains(chains), config.shape_vx, size_nm, streams[3])

    report("paint ultrastructure")
    image_zyx = imaging.paint_cytoplasm(territory, len(neurites), style, streams[3])
    if config.signature == "texture":
        imaging.paint_grain(territory, [*spiny, *axon_list], style.blur_nm, image_zyx, streams[10])
    organelles.paint_tubules(organelles.place_tubules(spiny, streams[4]), territory, image_zyx, style)
    mito_capsules, homes = organelles.place_mitochondria(config, neurites, sites, streams[4])
    mito_zyx = organelles.paint_mitochondria(mito_capsules, homes, territory, image_zyx, config.seed, style)
    if config.signature == "texture":
        look = contacts.draw_arrangement(sites, neurites, streams[5])
    else:
        look = contacts.draw_morphology(sites, streams[5])
    label_zyx, verified = contacts.paint_contacts(sites, look, territory, image_zyx, style, streams[5])
    vesicles.paint_vesicles(sites, verified, look, territory, mito_zyx, image_zyx, style, streams[6])
    segment_zyx = territory.owner_zyx
    del territory

    report("measure traits")
    tables = streams[7]
    kept = tables.permutation(np.flatnonzero(verified))
    real = [sites[k] for k in kept]
    measured = traits.measure_traits(real, kept + 1, neurites, segment_zyx, mito_zyx, label_zyx, config)
    del mito_zyx

    em_zyx = imaging.expose_sections(image_zyx, style, config.voxel_size_nm, streams[8], progress)
    del image_zyx
    imaging.cut_out_sections(em_zyx, config.cutout_section_fraction, streams[8])
    report("spoil and tabulate")
    spoiled = defects.draw_defects(real, config.defect_fraction, streams[9])
    for defect, site, k in zip(spoiled, real, kept, strict=True):
        if defect:
            spared = defects.neighbours(site, real)
            where = (em_zyx, segment_zyx, label_zyx, size_nm)
            defects.apply_defect(defect, site, int(k) + 1, *where, streams[9], spared)

    synapse_ids = tables.permutation(np.arange(10_000, max(100_000, 10_000 + 4 * len(real))))[: len(real)]
    cleft_ids = np.zeros(len(sites) + 1, np.uint32)
    first_cleft = int(synapse_ids.max(initial=0)) + 1
    cleft_ids[1:] = tables.permutation(np.arange(first_cleft, first_cleft + len(sites)))
    root_ids = traits.draw_root_ids(len(neurites), tables)
    truth = pd.concat(
        [measured, pd.Series(spoiled, name="defect", dtype=object), traits.describe_geometry(real)], axis=1
    )
    truth.insert(0, "synapse_id", synapse_ids)
    return SimulatedVolume(
        em_xyz=em_zyx.transpose(2, 1, 0),
        segmentation_xyz=root_ids[segment_zyx].transpose(2, 1, 0),
        cleft_xyz=cleft_ids[label_zyx].transpose(2, 1, 0),
        synapse_table=traits.tabulate_synapses(real, synapse_ids, root_ids, config, tables),
        annotation_table=traits.tabulate_annotations(truth, config, tables),
        neurite_table=traits.tabulate_neurites(neurites, real, root_ids, tables),
        truth_table=truth,
        voxel_size_nm=config.voxel_size_nm,
    )
