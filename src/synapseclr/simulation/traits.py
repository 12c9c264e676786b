"""Tables of a simulated volume: what a connectomics release would give, and the whole truth beside it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from synapseclr.simulation.config import SimulationConfig
from synapseclr.simulation.geometry import EXCITATORY, Floats, Neurite, Site, ball

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
    """Where each synapse truly lies and how it is oriented: centre in nm, unit normal from pre to post, target."""
    centres: Floats = np.array([site.centre_nm for site in sites]).reshape(-1, 3)
    normals: Floats = np.array([site.normal for site in sites]).reshape(-1, 3)
    columns: dict[str, object] = {f"centre_{axis}_nm": centres[:, k] for k, axis in enumerate("xyz")}
    columns |= {f"normal_{axis}": normals[:, k] for k, axis in enumerate("xyz")}
    return pd.DataFrame(columns | {"post_target": [site.target for site in sites]})
