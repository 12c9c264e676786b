from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DistributedSampler

from synapseclr.training import fit
from synapseclr.training.data import EpochBatchSampler
from synapseclr.training.module import PretrainingModule
from synapseclr.volumes import ChunkStore


def distributed_sampler(n, batch_size, seed, shuffle, rank, world_size, epoch):
    sampler = DistributedSampler(
        range(n), num_replicas=world_size, rank=rank, shuffle=shuffle, seed=seed, drop_last=shuffle
    )
    sampler.set_epoch(epoch)
    return list(BatchSampler(sampler, batch_size, drop_last=shuffle))


def at_epoch(sampler, epoch):
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("n", "batch_size", "world_size"), [(16, 4, 1), (17, 4, 1), (22, 3, 2), (7, 2, 3), (2, 2, 4)])
def test_the_order_is_that_of_pytorchs_distributed_sampler(n, batch_size, world_size, shuffle):
    for rank in range(world_size):
        sampler = EpochBatchSampler(n, batch_size, 5, shuffle, rank, world_size, drop_last=shuffle)
        for epoch in (0, 3):
            expected = distributed_sampler(n, batch_size, 5, shuffle, rank, world_size, epoch)
            assert at_epoch(sampler, epoch) == expected
            assert len(sampler) == len(expected)


def test_two_processes_share_the_batch_of_one():
    whole = at_epoch(EpochBatchSampler(50, 8, 1, True, drop_last=True), 2)
    halves = [at_epoch(EpochBatchSampler(50, 4, 1, True, rank, 2, drop_last=True), 2) for rank in range(2)]
    assert len(whole) == 6
    for batch, of_rank_0, of_rank_1 in zip(whole, *halves, strict=True):
        assert sorted(batch) == sorted(of_rank_0 + of_rank_1)


def test_an_epoch_entered_late_yields_its_remaining_batches_and_the_next_one_is_whole():
    def with_partner(anchors_b, rng):
        return rng.integers(0, 100, len(anchors_b))

    whole = EpochBatchSampler(40, 4, 1, True, drop_last=True, partners=with_partner)
    late = EpochBatchSampler(40, 4, 1, True, drop_last=True, partners=with_partner)
    late.enter_at(epoch=2, batch=7)
    assert at_epoch(late, 2) == at_epoch(whole, 2)[7:]
    assert len(late) == 10
    assert at_epoch(late, 3) == at_epoch(whole, 3)


def test_partners_follow_their_anchors_and_depend_on_epoch_batch_and_rank():
    def any_position(anchors_b, rng):
        assert anchors_b.dtype == np.int64
        return rng.integers(0, 2**40, len(anchors_b))

    plain = EpochBatchSampler(24, 4, 3, True, drop_last=True)
    drawn = set()
    for rank in range(2):
        paired = EpochBatchSampler(24, 4, 3, True, rank, 2, drop_last=True, partners=any_position)
        for epoch in range(2):
            for batch in at_epoch(paired, epoch):
                drawn.add(tuple(batch[4:]))
    assert len(drawn) == 2 * 2 * 3
    alone = EpochBatchSampler(24, 4, 3, True, drop_last=True, partners=any_position)
    assert [batch[:4] for batch in at_epoch(alone, 1)] == at_epoch(plain, 1)


def test_a_rank_outside_of_the_world_is_an_error():
    with pytest.raises(ValueError, match=r"rank is 2, expected 0 to 1"):
        EpochBatchSampler(10, 2, 0, True, rank=2, world_size=2)


@pytest.fixture
def _three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_three_threads")
def test_training_learns_from_the_same_views_as_without(chunks, tiny_config, tmp_path, monkeypatch):
    seen = {0: [], 1: []}
    embed = PretrainingModule._embed

    def watch(module, views):
        if module.training:
            seen[module.config.view_threads].append(views.intensity_bcxyz.clone())
        return embed(module, views)

    monkeypatch.setattr(PretrainingModule, "_embed", watch)
    histories = {}
    for threads in (0, 1):
        config = tiny_config.model_copy(update={"view_threads": threads, "epochs": 2})
        histories[threads] = fit(chunks, config, str(tmp_path / str(threads))).history
    assert len(seen[0]) == len(seen[1]) == 8
    for ours, expected in zip(seen[1], seen[0], strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    # sums over another number of threads are rounded differently, and training amplifies that
    np.testing.assert_allclose(histories[1]["train_loss"], histories[0]["train_loss"], rtol=0.05)
    assert (histories[1]["augment_share"] == 0).all()
    assert (histories[0]["augment_share"] > 0).all()


@dataclass(frozen=True)
class FailingStore(ChunkStore):
    """Cannot be read at the n-th reading, counted from 1."""

    fails_at: int = 0

    def read(self, indices):
        self.__dict__["n"] = self.__dict__.get("n", 0) + 1
        if self.__dict__["n"] == self.fails_at:
            raise OSError("the disk fails")
        return super().read(indices)


@pytest.mark.usefixtures("_three_threads")
def test_what_was_drawn_ahead_is_not_counted_as_done(chunks, tiny_config, tmp_path):
    """The eighth reading is the third batch of the second epoch: four batches and a validation come before."""
    changes = {"view_threads": 1, "chunk_cache_mb": 0, "epochs": 2, "checkpoints": {"every_n_steps": 1}}
    config = tiny_config.model_validate(tiny_config.model_dump() | changes)
    whole = fit(chunks, config, str(tmp_path / "whole"))
    with pytest.raises(OSError, match="the disk fails"):
        fit(FailingStore(chunks.url, fails_at=8), config, str(tmp_path / "broken"))
    (checkpoint,) = (tmp_path / "broken").glob("*/last.ckpt")
    assert 4 < torch.load(checkpoint, weights_only=True)["global_step"] < 8
    continued = fit(chunks, config, str(tmp_path / "broken"))
    assert continued.weights.sha256 == whole.weights.sha256
