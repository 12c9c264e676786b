import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from synapseclr.volumes.voxel_loops import count_constant_sections


@given(arrays(np.uint8, (3, 4, 5), elements=st.integers(0, 3)))
def test_constant_sections_are_those_with_one_value_beside_0(intensity_xyz):
    values = [set(np.unique(intensity_xyz[:, :, z])) - {0} for z in range(5)]
    expected = sum(len(found) == 1 for found in values), sum(not found for found in values)
    assert tuple(count_constant_sections(intensity_xyz)) == expected


def test_white_sections_are_constant_too():
    assert tuple(count_constant_sections(np.full((2, 2, 3), 255, np.uint8))) == (3, 0)
