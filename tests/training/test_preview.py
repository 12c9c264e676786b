import numpy as np
import torch

from synapseclr.augmentation import Augmenter
from synapseclr.training import sample_augmented_pairs


def test_pairs_are_the_views_that_training_draws(chunks, tiny_config):
    pairs = sample_augmented_pairs(chunks, tiny_config, 6)
    rows = [chunks.synapse_id.tolist().index(synapse) for synapse in pairs.synapse_id]
    np.testing.assert_array_equal(pairs.chunk_ncxyz, chunks.read(rows))
    generator = torch.Generator().manual_seed(tiny_config.seed)
    views = Augmenter(tiny_config.augmentation).views(torch.from_numpy(pairs.chunk_ncxyz), 2, generator)
    for view, expected in enumerate(views):
        raw = (pairs.intensity_nvcxyz[:, view] - 0.44) / 0.28
        np.testing.assert_allclose(raw, expected.intensity_bcxyz.numpy(), atol=1e-5)
        np.testing.assert_array_equal(pairs.cleft_nvxyz[:, view], expected.mask_bcxyz[:, 1].numpy())


def test_the_seed_chooses_and_a_small_store_gives_what_it_has(chunks, tiny_config):
    again, other = tiny_config, tiny_config.model_copy(update={"seed": 1})
    first, second, third = (sample_augmented_pairs(chunks, each, 6).synapse_id for each in (tiny_config, again, other))
    assert first.tolist() == second.tolist() != third.tolist()
    assert len(sample_augmented_pairs(chunks, tiny_config, 50).synapse_id) == len(chunks)
