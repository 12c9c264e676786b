"""Golden vectors and small chunks for the augmentation tests."""

from pathlib import Path

import numpy as np
import pytest
import torch

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden"


class Golden:
    """One recorded file; arrays come as tensors."""

    def __init__(self, name):
        path = GOLDEN / f"{name}.npz"
        if not path.exists():
            pytest.skip(f"the recorded vectors {path} are not here")
        self._file = np.load(path)

    def __getitem__(self, key):
        return torch.from_numpy(self._file[key])

    def get(self, key):
        if key not in self:
            return None
        return self[key]

    def __contains__(self, key):
        return key in self._file.files


@pytest.fixture(scope="session")
def golden():
    torch.set_num_threads(1)
    opened = {}

    def load(name):
        return opened.setdefault(name, Golden(name))

    return load


def _chunk(batch=2, shape=(24, 24, 8), seed=0, cleft=True):
    """A presynaptic and a postsynaptic slab that meet at a cleft, with textured intensities above 0."""
    generator = torch.Generator().manual_seed(seed)
    chunk = torch.randint(1, 256, (batch, 2, *shape), generator=generator, dtype=torch.uint8)
    middle = shape[0] // 2
    mask = torch.zeros(shape, dtype=torch.uint8)
    mask[middle // 2 : middle] = 1
    mask[middle : middle + middle // 2] = 3
    if cleft:
        mask[middle - 1 : middle + 1, shape[1] // 4 : -shape[1] // 4] = 2
    chunk[:, 1] = mask
    return chunk


@pytest.fixture(scope="session")
def make_chunk():
    return _chunk


@pytest.fixture
def chunk():
    return _chunk()
