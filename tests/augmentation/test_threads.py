"""Threads of compiled loops, and views drawn ahead."""

import threading

import pytest
import torch

from synapseclr.augmentation.threads import draw_ahead


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
