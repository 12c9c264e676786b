"""Causes that are read off the ids alone."""

import numpy as np
import pytest

from synapseclr.volumes.preflight.diagnosis import diagnose_ids

ROOTS = np.array([648518346349501011, 648518346349501006])  # the highest byte is 9


@pytest.mark.parametrize(
    ("table_ids", "ids_near", "cause"),
    [
        (ROOTS, ROOTS - 1000, "another version of the segmentation"),
        (ROOTS, np.array([(1 << 56) + 5, (1 << 56) + 6]), "holds supervoxels"),
        (ROOTS // 1024 * 1024, ROOTS, "rounded by a spreadsheet"),
        (np.array([12, 15]), np.array([20_000, 30_000]), "another version of the segmentation"),
        (ROOTS, np.array([], np.int64), "holds background only"),
    ],
    ids=["version", "supervoxels", "rounded", "small ids", "background"],
)
def test_the_likeliest_cause_of_unknown_ids(table_ids, ids_near, cause):
    text = diagnose_ids(table_ids.astype(np.int64), ids_near.astype(np.uint64))
    assert cause in text
    if len(ids_near):
        assert f"the table has {table_ids[0]}, the segmentation {ids_near[0]} there" in text
