import numpy as np
import pytest
from torch.utils.data import BatchSampler, DistributedSampler

from synapseclr.training.data import EpochBatchSampler


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
