"""Threads of compiled loops, and views drawn ahead."""

import threading
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from synapseclr.augmentation.threads import draw_ahead
from synapseclr.training import fit
from synapseclr.training.module import PretrainingModule
from synapseclr.volumes import ChunkStore


@pytest.fixture(autouse=True)
def _three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_batches_keep_order_and_index_and_are_drawn_in_another_thread_with_its_own_number_of_threads():
    def draw(batch, index):
        return batch, index, torch.get_num_threads(), threading.get_ident()

    drawn, threads_of_the_caller = [], []
    for views in draw_ahead("abc", draw, 5, 2):
        drawn.append(views)
        threads_of_the_caller.append(torch.get_num_threads())
    assert [views[:3] for views in drawn] == [("a", 5, 2), ("b", 6, 2), ("c", 7, 2)]
    assert threading.get_ident() not in {views[3] for views in drawn}
    assert threads_of_the_caller == [1, 1, 3]  # nothing is drawn beside the last batch


def test_next_batch_is_drawn_before_it_is_asked_for():
    second_drawn = threading.Event()

    def draw(batch, index):
        if index == 1:
            second_drawn.set()
        return batch

    batches = draw_ahead([0, 1, 2], draw, 0, 1)
    next(batches)
    assert second_drawn.wait(60)


def test_error_in_a_draw_reaches_the_caller_and_threads_come_back():
    def draw(batch, index):
        if index == 1:
            raise ValueError("bad chunk")
        return batch

    batches = draw_ahead([0, 1, 2], draw, 0, 1)
    assert next(batches) == 0
    with pytest.raises(ValueError, match="bad chunk"):
        next(batches)
    assert torch.get_num_threads() == 3


def test_threads_come_back_when_an_epoch_is_given_up():
    batches = draw_ahead([0, 1, 2], lambda batch, index: batch, 0, 2)
    next(batches)
    assert torch.get_num_threads() == 1
    batches.close()
    assert torch.get_num_threads() == 3


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
