"""Prepared synapses: kept where they fit, shared by a run's nodes, never shared where nothing is to be kept."""

import numpy as np
import torch

from synapseclr.training.prepared import prepared_store
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
