"""Prepared synapses: kept where they fit, shared by a run's nodes, never shared where nothing is to be kept."""

import numpy as np
import torch

from synapseclr.augmentation import Augmenter
from synapseclr.training import sample_augmented_pairs
from synapseclr.training.prepared_store import prepared_store
from synapseclr.volumes import ChunkStore


def test_nodes_share_what_is_kept_and_only_that(chunks, tiny_config):
    augmentation = tiny_config.augmentation
    kept = prepared_store(chunks, augmentation, cache_mb=1000)
    again = ChunkStore(chunks.url)
    assert prepared_store(again, augmentation, cache_mb=1000) is kept
    uncached = prepared_store(again, augmentation, cache_mb=0)
    assert uncached is not kept
    assert not uncached.is_cached
    assert prepared_store(chunks, augmentation, cache_mb=1000) is kept
    coarser = augmentation.replaced(axial_to_sagittal_spacing=2.0)
    assert prepared_store(chunks, coarser, cache_mb=1000) is not kept


def test_kept_synapses_equal_those_read_each_time(chunks, tiny_config):
    index_b = np.array([3, 1, 3, 0])
    kept = prepared_store(chunks, tiny_config.augmentation, cache_mb=1000).read(index_b)
    read = prepared_store(chunks, tiny_config.augmentation, cache_mb=0).read(index_b)
    assert torch.equal(kept.volume_bxyzc, read.volume_bxyzc)


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
