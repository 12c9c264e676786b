import time

import lightning
import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from synapseclr.augmentation import AugmentationConfig
from synapseclr.models import ModelConfig
from synapseclr.training import PretrainingConfig, fit
from synapseclr.training.data import ChunkDataModule, SynapseDataset
from synapseclr.training.module import PretrainingModule
from synapseclr.training.prepared_store import PreparedStore
from synapseclr.training.throughput import (
    SHARES,
    WALL_CLOCK_METRICS,
    CUDAClock,
    StepProfiler,
    ThroughputMonitor,
    training_flops_per_synapse,
)

WAIT, BATCH, STEP, BACKWARD = (
    "[_TrainingEpochLoop].train_dataloader_next",
    "run_training_batch",
    "[Strategy]SingleDeviceStrategy.training_step",
    "[Strategy]SingleDeviceStrategy.backward",
)


class SteppedClock:
    """A clock that is set by hand; its moments pass when the test says so."""

    def __init__(self):
        self.time = 0.0
        self.all_passed = True
        self.released = []

    def now(self):
        return [self.time]  # a new object each time, as an event is

    def seconds(self, start, stop):
        return stop[0] - start[0]

    def passed(self, moment):
        return self.all_passed

    def release(self, moments):
        self.released += moments


def profiler_with(clock):
    profiler = StepProfiler()
    profiler._clock = clock
    return profiler


def run_step(profiler, clock, wait=1.0, augment=2.0, forward=3.0, backward=4.0, optimiser=5.0, copy=0.5):
    """One training step as Lightning reports it, of known durations."""
    with profiler.profile(WAIT):
        clock.time += wait
    clock.time += copy
    with profiler.profile(BATCH):
        with profiler.profile(STEP):
            with profiler.profile("augment"):
                clock.time += augment
            clock.time += forward
        with profiler.profile(BACKWARD):
            clock.time += backward
        clock.time += optimiser


def test_the_time_of_a_step_is_split_into_its_parts():
    clock = SteppedClock()
    profiler = profiler_with(clock)
    for _ in range(3):
        run_step(profiler, clock)
        clock.time += 0.25  # what other callbacks do between two steps
    times = profiler.collect()
    assert times.steps == 3
    assert times.wait == 3.0
    assert times.sections == {"augment": 6.0, "forward": 9.0, "backward": 12.0, "optimiser": 15.0}
    assert times.total == 3 * 15.5 + 2 * 0.25  # the last step ends with its batch
    assert profiler.collect().steps == 0


def test_validation_is_no_part_of_a_step():
    clock = SteppedClock()
    profiler = profiler_with(clock)
    run_step(profiler, clock)
    profiler.pause()
    with profiler.profile("[Strategy]SingleDeviceStrategy.validation_step"), profiler.profile("augment"):
        clock.time += 100
    run_step(profiler, clock)
    times = profiler.collect()
    assert (times.steps, times.total, times.sections["augment"]) == (2, 31.0, 4.0)


def test_a_step_that_was_broken_off_does_not_count():
    clock = SteppedClock()
    profiler = profiler_with(clock)
    with profiler.profile(WAIT):
        clock.time += 1
    run_step(profiler, clock)
    with pytest.raises(RuntimeError, match="broken off"), profiler.profile(WAIT):
        raise RuntimeError("broken off")
    assert profiler.collect().steps == 1


def test_an_accumulating_step_has_no_optimiser_time():
    clock = SteppedClock()
    profiler = profiler_with(clock)
    run_step(profiler, clock, optimiser=0.0)
    assert profiler.collect().sections["optimiser"] == 0.0


def test_moments_are_read_only_when_they_have_passed_and_each_is_given_back_once():
    clock = SteppedClock()
    clock.all_passed = False
    profiler = profiler_with(clock)
    for _ in range(3):
        run_step(profiler, clock)
    assert not clock.released
    clock.all_passed = True
    run_step(profiler, clock)
    assert len({id(moment) for moment in clock.released}) == len(clock.released) > 0
    assert profiler.collect().steps == 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_the_clock_of_the_device_measures_the_device():
    clock = CUDAClock()
    start = clock.now()
    torch.cuda._sleep(50_000_000)
    stop = clock.now()
    assert clock.seconds(start, stop) > 0.005


def test_the_published_model_takes_the_known_number_of_operations():
    """89 GMAC a view: two views, forward and backward, are 1.07 TFLOP a synapse."""
    config = PretrainingConfig(augmentation=AugmentationConfig.so3())
    assert config.augmentation.final_img_size == 96
    assert training_flops_per_synapse(config) == pytest.approx(1.07e12, rel=0.005)


def test_counted_operations_agree_with_a_real_forward_and_backward_pass(tiny_config):
    """The real backward pass is cheaper by the first convolution's gradient of its input, which nobody needs."""
    model = tiny_config.model.build(0)
    size = tiny_config.augmentation.final_img_size
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(2, 1, size, size, size))["projector.mlp.3"].sum().backward()
    counts = counter.get_flop_counts()["Global"]
    convolution = (
        2
        * model.encoder.conv1.weight.numel()
        * 2
        * np.prod(model.encoder.conv1(torch.zeros(1, 1, size, size, size)).shape[2:])
    )
    assert sum(counts.values()) == pytest.approx(training_flops_per_synapse(tiny_config) - convolution, rel=1e-6)


def test_counting_leaves_the_global_random_state_alone(tiny_config):
    before = torch.get_rng_state()
    training_flops_per_synapse(tiny_config)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_that_cannot_be_counted_is_said_so(tiny_config, monkeypatch, caplog):
    class Picky(torch.nn.Module):
        def forward(self, x, mask):
            return x.mean().item()

    monkeypatch.setattr(ModelConfig, "build", lambda self, seed: Picky())
    assert training_flops_per_synapse(tiny_config) is None
    assert "TFLOP/s are not recorded" in caplog.text


@pytest.fixture(scope="module")
def rows(chunks, tiny_config, tmp_path_factory):
    reported = []
    start = time.perf_counter()
    config = tiny_config.model_copy(update={"epochs": 2})
    result = fit(chunks, config, str(tmp_path_factory.mktemp("c")), report=lambda _, row: reported.append(row))
    return reported, result.history, time.perf_counter() - start


def test_every_epoch_has_its_throughput_in_history_and_report(rows, tiny_config):
    reported, history, seconds = rows
    expected = set(WALL_CLOCK_METRICS) - {"gpu_memory_gb"}
    assert expected <= set(history.columns)
    assert "gpu_memory_gb" not in history
    assert all(expected <= set(row) for row in reported)
    shares = history[list(SHARES)]
    assert ((shares > 0) & (shares < 1)).all(axis=None)
    assert (shares.sum(axis=1) <= 1).all()
    trained = 16 * 2  # of 20 synapses, 4 are held out
    assert (history["synapses_per_second"] > trained / 2 / seconds).all()
    ratio = history["tflops_per_second"] / history["synapses_per_second"]
    np.testing.assert_allclose(ratio, training_flops_per_synapse(tiny_config) / 1e12)


def test_the_loader_that_is_slow_shows_in_data_wait(chunks, tiny_config):
    """A loader that sleeps for long is most of the time; the callback says so."""

    class Slow(SynapseDataset):
        def __getitems__(self, positions):
            time.sleep(0.5)
            return super().__getitems__(positions)

    monitor = ThroughputMonitor(tiny_config)
    synapses = PreparedStore(chunks, tiny_config.augmentation, cache_mb=64)
    loader = torch.utils.data.DataLoader(Slow(synapses, np.arange(8)), batch_size=4, collate_fn=lambda batch: batch)
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, callbacks=[monitor], profiler=monitor.profiler,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(PretrainingModule(tiny_config), loader)
    waited = monitor.metrics["data_wait"] * 8 / monitor.metrics["synapses_per_second"]
    assert waited >= 1.0


def test_workers_read_what_the_training_process_reads(chunks, tiny_config):
    """The same epoch, read by a worker process, without the cache; uint8 all the way."""
    batches = []
    for num_workers in (0, 1):
        config = tiny_config.model_copy(update={"num_workers": num_workers, "chunk_cache_mb": 0, "prefetch_factor": 3})
        loader = ChunkDataModule(chunks, config, np.empty(0, dtype=np.int64)).train_dataloader()
        assert loader.prefetch_factor == (3 if num_workers else None)
        batches.append(list(loader))
    assert len(batches[0]) == len(batches[1]) == 4
    for here, there in zip(*batches, strict=True):
        assert here.volume_bxyzc.dtype == there.volume_bxyzc.dtype == torch.uint8
        assert torch.equal(here.volume_bxyzc, there.volume_bxyzc)
        assert here.shape_xyz == there.shape_xyz
