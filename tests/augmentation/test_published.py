import pytest
import torch

from synapseclr.augmentation import AugmentationConfig, Augmenter, draw_view
from synapseclr.augmentation.intensity import cut_sections, map_tone
from synapseclr.augmentation.published import decode_published
from synapseclr.errors import SynapseCLRError


def test_published_fidelity_refuses_chunks_that_are_not_square(make_chunk):
    with pytest.raises(SynapseCLRError, match="square"):
        Augmenter(AugmentationConfig.extract(fidelity="published"))(make_chunk(1, (24, 22, 8)))


@pytest.mark.parametrize("mode", ["coupled", "decoupled"])
def test_a_table_of_levels_gives_the_values_of_the_operations_themselves(make_chunk, mode):
    chunk = make_chunk(3, (16, 16, 10))
    config = AugmentationConfig.so3(batch_mode=mode, section_cutout_prob=1.0)
    draws = draw_view(config, 3, 10, torch.Generator().manual_seed(0))
    plain, _ = decode_published(chunk, 255.0)
    expected = map_tone(map_tone(cut_sections(plain, draws.section_cut_bz), draws.sectional), draws.global_tone)
    for shared in (True, False):
        assert torch.equal(decode_published(chunk, 255.0, shared, draws)[0], expected)
