import numpy as np
import pytest


@pytest.fixture
def chunk_ncxyz():
    rng = np.random.default_rng(0)
    chunk_ncxyz = rng.integers(1, 256, (8, 2, 24, 16, 6), dtype=np.uint8)
    chunk_ncxyz[:, 1] = 0
    chunk_ncxyz[:, 1, 4:8, 4:8, 3] = 2
    chunk_ncxyz[:, 1, 4:7, 4:7, 4] = 2
    return chunk_ncxyz
