"""Several processes, and several machines' worth of them, against one."""

import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import warm_process
from pydantic import ValidationError
from torch import distributed

from synapseclr.errors import ConfigurationError, TrainingInterrupted, WorkerError
from synapseclr.models import EncoderWeights
from synapseclr.training import EmbeddingConfig, PretrainingConfig, ProbeTargets, embed_store, fit, workers
from synapseclr.training.launching import EndedWorker, ScaleConfig, _Conversation, cause, launch
from synapseclr.training.workers import Mailbox, RaisedError

JOBS = Path(__file__).with_name("scale_jobs.py")


@pytest.fixture(scope="module")
def two_processes(tiny_config):
    """A configuration of six epochs on two processes."""
    return tiny_config.model_copy(update={"epochs": 6, "devices": 2})


def run_job(*arguments):
    """Run what one of several machines does, to its end."""
    command = [sys.executable, "-m", JOBS.stem, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return warm_process.run(command, cwd=JOBS.parent, env=environment, timeout=300)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_processes_train_as_one_with_the_doubled_batch(chunks, tiny_config, tmp_path, monkeypatch):
    """Twenty steps with the same draws for all processes.

    What starts as a rounding difference, Adam makes ten times as large every few steps: hence the low learning rate.
    """
    monkeypatch.syspath_prepend(str(JOBS.parent))  # where the workers find the function, too
    import scale_jobs

    shared = {"enable_global_intensity", "enable_gaussian_blur", "enable_rotation", "enable_displacement"}
    shared |= {"enable_x_flip", "enable_y_flip", "enable_z_flip", "enable_xy_swap"}
    switches = {name: name in shared for name in type(tiny_config.augmentation).model_fields if "enable_" in name}
    update = {
        "augmentation": tiny_config.augmentation.replaced(**switches),
        "optimiser": tiny_config.optimiser.model_copy(update={"learning_rate": 1e-5}),
        "epochs": 10,
    }
    targets = ProbeTargets(np.arange(10), {"pre_cell_type": np.arange(10) % 2.0}, {"pre_cell_type": np.arange(10)})
    one = tiny_config.model_copy(update={**update, "batch_size": 8})
    two = tiny_config.model_copy(update={**update, "batch_size": 4, "devices": 2})
    expected, expected_result = scale_jobs.record_steps(chunks, one, str(tmp_path / "one"), targets, lambda *_: None)
    reports = []
    arguments = (chunks, two, str(tmp_path / "two"), targets)
    losses, result = launch(scale_jobs.record_steps, arguments, two, False, lambda *report: reports.append(report))

    assert len(losses) == 20
    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-4)
    assert np.ptp(losses) > 0.1
    for name in ("train_loss", "validation_loss", "alignment", "uniformity", "effective_rank", "knn_pre_cell_type"):
        np.testing.assert_allclose(result.history[name], expected_result.history[name], rtol=1e-3, err_msg=name)
    start_weights = dict(one.model.build(one.seed).named_parameters())
    for name, begun in start_weights.items():
        moved = expected_result.weights.state_dict[name] - begun.detach()
        apart = expected_result.weights.state_dict[name] - result.weights.state_dict[name]
        assert apart.norm() < 0.05 * moved.norm(), name
    assert [epoch for epoch, _ in reports] == list(range(1, 11))
    assert reports[-1][1]["train_loss"] == result.history["train_loss"].iloc[-1]


def test_an_interrupted_job_of_two_continues_as_two_machines_would_train_it(chunks, two_processes, tmp_path, caplog):
    """A worker is killed, the job started again, this process told to end, and the job started again.

    Against two agents on loopback that are not interrupted, each with one worker: the same weights bit for bit.
    """
    caplog.set_level("INFO", "synapseclr")

    def kill_a_worker(epoch, metrics):
        if epoch == 2:
            os.kill(max(child.pid for child in multiprocessing.active_children()), signal.SIGKILL)

    def end(epoch, metrics):
        if epoch == 4:  # the history of earlier epochs is reported first
            os.kill(os.getpid(), signal.SIGTERM)

    folder = str(tmp_path / "one")
    with pytest.raises(
        WorkerError, match=r"of rank \d \(process \d+ on \S+\) was killed by SIGKILL .*same command again"
    ):
        fit(chunks, two_processes, folder, report=kill_a_worker)
    with pytest.raises(TrainingInterrupted) as stopped:
        fit(chunks, two_processes, folder, report=end)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert caplog.text.count("SIGTERM: the training has stopped, its checkpoint is") == 1
    result = fit(chunks, two_processes, folder)
    assert caplog.text.count("Continuing the unfinished training") == 2
    assert result.history["epoch"].tolist() == list(range(1, 7))
    assert not multiprocessing.active_children()

    meeting = {"endpoint": f"127.0.0.1:{free_port()}", "timeout_s": 60}
    machines = {"devices": 1, "nodes": 2, "rendezvous": meeting}
    config = PretrainingConfig.model_validate({**two_processes.model_dump(), **machines})
    embedding = EmbeddingConfig.model_validate({"batch_size": 3, "device": "cpu", "n_rotations": 2, **machines})
    shared = tmp_path / "two"
    job = (chunks.url, config.model_dump_json(), embedding.model_dump_json(), shared)
    with ThreadPoolExecutor() as both:
        agents = list(both.map(lambda _: run_job(*job), range(2)))
    assert [agent.returncode for agent in agents] == [0, 0], agents
    assert sorted(agent.stdout.count('"train_loss"') for agent in agents) == [0, 6]  # only machine 0 reports
    for machine in (0, 1):
        weights = EncoderWeights.from_bytes((shared / f"machine-{machine}.weights").read_bytes(), "")
        assert weights.sha256 == result.weights.sha256

    features = [np.frombuffer((shared / f"machine-{machine}.features").read_bytes(), np.float32) for machine in (0, 1)]
    model = result.weights.build()
    expected = embed_store(
        model, chunks, config.augmentation, EmbeddingConfig(batch_size=3, device="cpu", n_rotations=2)
    )
    for machine in (0, 1):
        np.testing.assert_array_equal(features[machine].reshape(20, -1), expected["encoder.fc"])
        spread_n = np.frombuffer((shared / f"machine-{machine}.spread").read_bytes(), np.float32)
        np.testing.assert_allclose(spread_n, expected["rotation_spread"], rtol=1e-6)


def test_what_a_worker_raises_is_raised_here(chunks, two_processes, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ConfigurationError, match=r"^pretraining.batch_size is 17, but only 16 synapses are left"):
        fit(chunks, two_processes.model_copy(update={"batch_size": 17}), str(tmp_path))
    assert signal.getsignal(signal.SIGINT) is before


def machines(**meeting):
    return ScaleConfig.model_validate({"nodes": 2, "rendezvous": meeting})


def test_an_endpoint_that_cannot_be_reached_is_named():
    scale = machines(endpoint="192.0.2.1:29400", timeout_s=1)  # TEST-NET-1: nobody's
    with pytest.raises(
        ConfigurationError, match=r"rendezvous endpoint 192.0.2.1:29400 could not be reached within 1 s"
    ):
        launch(print, (), scale, False)


def test_machines_that_do_not_come_are_missed():
    scale = machines(endpoint=f"127.0.0.1:{free_port()}", id="lonely", timeout_s=1)
    with pytest.raises(
        ConfigurationError, match=r"nodes is 2, but not so many machines came to the rendezvous 'lonely'"
    ):
        launch(print, (), scale, False)


def test_several_machines_need_an_endpoint():
    with pytest.raises(ValidationError, match=r"nodes is 2, but rendezvous.endpoint is not set"):
        ScaleConfig(nodes=2)
    with pytest.raises(ValidationError, match=r"rendezvous.endpoint is 'node01', expected host:port"):
        machines(endpoint="node01")


def test_what_cannot_be_sent_to_workers_is_an_error_at_once():
    with pytest.raises(TypeError, match="cannot be sent to them"):
        launch(lambda report: None, (), ScaleConfig(devices=2), False)


@pytest.mark.parametrize(
    ("n_gpus", "devices", "on_gpu", "expected"),
    [(0, "auto", None, 1), (4, "auto", None, 4), (4, "auto", False, 1), (0, 3, None, 3), (4, 2, True, 2)],
)
def test_devices_here(monkeypatch, n_gpus, devices, on_gpu, expected):
    monkeypatch.setattr("torch.cuda.device_count", lambda: n_gpus)
    assert ScaleConfig(devices=devices).devices_here(on_gpu) == expected


def test_more_devices_than_gpus_is_an_error(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ConfigurationError, match=r"devices is 2, but this machine has 1 GPU\. Set devices to auto"):
        ScaleConfig(devices=2).devices_here(None)


TIMED_OUT = RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 1800000ms for recv operation")
CLOSED = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4711")
ENDED = [EndedWorker(0, 10, 1, "node01"), EndedWorker(1, 11, -9, "node01")]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TIMED_OUT, r"rank 1 \(process 11 on node01\) did not answer the others for 30 minutes: it was stopped"),
        (CLOSED, r"rank 1 \(process 11 on node01\) was killed by SIGKILL \(kill -9"),
    ],
)
def test_a_worker_that_was_stopped_is_told_from_one_that_was_killed(error, said):
    found = cause([RaisedError(0, 1.0, error)], ENDED)
    assert isinstance(found, WorkerError)
    with pytest.raises(WorkerError, match=said):
        raise found


def test_what_a_worker_says_goes_before_what_became_of_the_others():
    raised = [RaisedError(0, 1.0, TIMED_OUT), RaisedError(1, 2.0, TrainingInterrupted(15))]
    assert isinstance(cause(raised, ENDED), TrainingInterrupted)
    own = ValueError("a request timed out")  # of the worker's own work
    assert "SIGKILL" in str(cause([RaisedError(0, 1.0, own)], ENDED))


def exchange(rank, place, pids, raised):
    """One of two workers: adds up a number with the other, over and over; the second one is stopped meanwhile."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{place}", rank=rank, world_size=2, timeout=timedelta(seconds=2)
    )
    pids.put((rank, os.getpid()))
    try:
        while True:
            distributed.all_reduce(torch.ones(1))
    except Exception as error:
        raised.put(f"{type(error).__module__} {type(error).__name__}\n{error}")


def test_a_worker_that_is_really_stopped_is_told_from_one_that_was_killed(tmp_path):
    context = multiprocessing.get_context("fork")
    pids, raised = context.SimpleQueue(), context.SimpleQueue()
    workers = [context.Process(target=exchange, args=(rank, tmp_path / "meeting", pids, raised)) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    found = dict(pids.get() for _ in workers)
    os.kill(found[1], signal.SIGSTOP)
    kind, _, text = raised.get().partition("\n")
    for worker in workers:  # as the launching process ends the workers
        worker.kill()
        worker.join()
    assert kind.endswith(("RuntimeError", "DistBackendError"))
    ended = [EndedWorker(0, found[0], 1, "node01"), EndedWorker(1, found[1], -signal.SIGKILL, "node01")]
    with pytest.raises(WorkerError, match=rf"rank 1 \(process {found[1]} on node01\) did not answer the others"):
        raise cause([RaisedError(0, 1.0, RuntimeError(text))], ended)


def test_a_report_that_fails_ends_the_workers_and_is_raised_here(tmp_path):
    """As when the function that reports an epoch is broken; a sleeping process stands for the worker."""
    worker = subprocess.Popen(["sleep", "60"])
    mailbox = Mailbox(str(tmp_path))
    mailbox.post(0, "started", 0, worker.pid)
    mailbox.post(0, "report", 1)

    def broken(epoch):
        raise LookupError(f"epoch {epoch}")

    with pytest.raises(LookupError, match="epoch 1"), _Conversation(mailbox, 1, broken):
        worker.wait(timeout=30)
    assert worker.returncode == -signal.SIGTERM


def test_machines_that_bring_different_numbers_of_processes_are_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "_configure_logging", lambda *_: None)
    for name, value in {"RANK": 1, "WORLD_SIZE": 3, "LOCAL_WORLD_SIZE": 1}.items():
        monkeypatch.setenv(name, str(value))
    job = pickle.dumps(workers.Job(print, (), on_gpu=False, log_level=20, n_threads=None, n_machines=2))
    with pytest.raises(ConfigurationError, match=r"^This machine brings 1 of 3 processes, but 2 machines are to bring"):
        workers.run_worker(str(tmp_path), job)
    (raised,) = Mailbox(str(tmp_path)).errors()
    assert (raised.rank, type(raised.error)) == (1, ConfigurationError)
