"""Principal components from merged moments are those of features in memory."""

import dask.array as da
import numpy as np
import pytest

from synapseclr.analysis.manifold import principal_components
from synapseclr.analysis.principal_axes import PrincipalAxes, components_in_blocks
from synapseclr.analysis.row_blocks import Moments, RowBlocksConfig


@pytest.mark.parametrize(("n_synapses", "n_components"), [(150, 4), (7, 50)])
def test_components_are_those_in_memory(tmp_path, n_synapses, n_components):
    features_nf = np.random.default_rng(0).normal(size=(n_synapses, 9)) * np.arange(1.0, 10.0) + 3.0
    features_nf[:, 4] = 2.0
    expected_np, expected_p = principal_components(features_nf, n_components)
    lazy_nf = da.from_array(features_nf, chunks=(40, 9))
    found_np, found_p = components_in_blocks(lazy_nf, n_components, RowBlocksConfig(rows=40, folder=str(tmp_path)))
    assert found_np.dtype == np.float32
    np.testing.assert_allclose(found_p, expected_p, atol=1e-6)
    is_real_p = expected_p > 1e-9  # directions without variance are arbitrary
    np.testing.assert_allclose(found_np[:, is_real_p], expected_np[:, is_real_p], rtol=1e-6, atol=1e-5)
    axes = PrincipalAxes.of(Moments.of(features_nf), n_components)
    np.testing.assert_allclose(axes.project_lazily(lazy_nf)[:, is_real_p], found_np[:, is_real_p], rtol=1e-6, atol=1e-5)


def test_constant_features_have_zeros(tmp_path):
    found_np, found_p = components_in_blocks(da.ones((30, 5), chunks=(8, 5)), 3, RowBlocksConfig(folder=str(tmp_path)))
    assert found_np.shape == (30, 3)
    assert not found_np.any()
    assert not found_p.any()
