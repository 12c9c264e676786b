"""Maps of the synapses, and the colours of their classes."""

import numpy as np
import pytest
from explorer_runs import make_synapses

from synapseclr.explorer.map_planes import column_colours, map_overview, projections, volume_planes
from synapseclr.explorer.run_outputs import Column, RunOutputs
from synapseclr.plotting.manifold import cluster_colour
from synapseclr.plotting.theme import class_colours


def test_maps_are_projections_and_the_volume():
    synapses = make_synapses(12, 16)
    synapses.obsm["X_umap_3d"] = np.arange(36, dtype=np.float32).reshape(12, 3)
    maps = RunOutputs(synapses).maps
    assert list(maps) == [
        *("UMAP", "PCA", "UMAP in 3D", "PCA in 3D"),
        *("Volume, x and y", "Volume, x and z", "Volume, z and y", "Volume in 3D"),
    ]
    np.testing.assert_array_equal(maps["UMAP in 3D"].coordinates_nd, synapses.obsm["X_umap_3d"])
    expected = synapses.obs[["centre_z_nm", "centre_y_nm"]].to_numpy() / 1000
    np.testing.assert_allclose(maps["Volume, z and y"].coordinates_nd, expected, rtol=1e-6)
    assert maps["Volume, z and y"].unit == "µm"
    assert maps["Volume, z and y"].is_downward


def test_maps_of_components_that_stand_in_for_umap_are_named_after_them():
    synapses = make_synapses(12, 16)
    synapses.uns["manifold"] = {"method": "pca: 9 synapses"}
    assert [plane.name for plane in projections(synapses)] == ["PCA", "PCA in 3D"]
    del synapses.obsm["X_pca"]
    assert [plane.name for plane in projections(synapses)] == ["PC"]


@pytest.mark.parametrize("change", ["absent", "missing"])
def test_without_all_positions_there_is_no_map_of_the_volume(change):
    synapses = make_synapses(12, 16)
    if change == "absent":
        del synapses.obs["centre_y_nm"]
    else:
        synapses.obs.loc[synapses.obs.index[3], "centre_y_nm"] = np.nan
    assert volume_planes(synapses) == []


def test_classes_have_the_colours_of_the_report():
    codes = np.zeros(3, np.float32)
    cluster = Column("cluster", "cluster", "Clusters", codes, ("0", "3", "none"))
    assert column_colours(cluster) == [cluster_colour(0), cluster_colour(3), None]
    assert column_colours(Column("leiden", "leiden", "Clusters", codes, ("a", "b", "c"))) == list(class_colours(3))
    assert column_colours(Column("type", "type", "Annotated", codes, ("excitatory",))) == [class_colours(2)[0]]
    told = map_overview({}, {"cluster": cluster, "size": Column("size", "size", "Sizes", codes)})
    assert list(told["class_colours"]) == ["cluster"]
