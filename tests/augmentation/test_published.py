import pytest

from synapseclr.augmentation import AugmentationConfig, Augmenter
from synapseclr.errors import SynapseCLRError


def test_published_fidelity_refuses_chunks_that_are_not_square(make_chunk):
    with pytest.raises(SynapseCLRError, match="square"):
        Augmenter(AugmentationConfig.extract(fidelity="published"))(make_chunk(1, (24, 22, 8)))


def test_published_fidelity_refuses_operations_that_the_published_code_has_not():
    operations = ("rotation", "resampling", {"synapseclr.augmentation.operations.flips.Flips": None}, "z_score")
    config = AugmentationConfig(operations=operations, fidelity="published")
    with pytest.raises(ValueError, match=r"flips.Flips are not"):
        Augmenter(config)
