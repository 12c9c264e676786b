"""Two real processes against one with the whole batch."""

import os
import subprocess
import sys
from datetime import timedelta

import pytest
import torch
from torch import distributed

from synapseclr.errors import ConfigurationError
from synapseclr.objectives import ObjectiveConfig, gather_views
from synapseclr.objectives.views import gather

PROCESSES, BATCH, IN, OUT = 2, 3, 7, 4

SETTING = f"""
import torch
from synapseclr.objectives import ObjectiveConfig
def setting(dtype):
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Linear({IN}, {OUT}).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=dtype))
    return model, torch.randn(2, {PROCESSES * BATCH}, {IN}, generator=generator, dtype=dtype)
OBJECTIVES = {{
    "nt_xent": ObjectiveConfig(name="nt_xent", temperature=0.2).build(),
    "decoupled": ObjectiveConfig(name="decoupled", temperature=0.2).build(),
    "vicreg": ObjectiveConfig(name="vicreg").build(),
}}
"""

WORKER = (
    SETTING
    + f"""
import os, sys
from datetime import timedelta
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from synapseclr.errors import ConfigurationError
from synapseclr.objectives import gather_views
from synapseclr.objectives.views import gather
rank, port, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
store = distributed.TCPStore("127.0.0.1", port, is_master=False, timeout=timedelta(seconds=40))
distributed.init_process_group("gloo", store=store, rank=rank, world_size={PROCESSES}, timeout=timedelta(seconds=40))
results = {{}}
for dtype in (torch.float32, torch.float64):
    for name, objective in OBJECTIVES.items():
        model, views = setting(dtype)
        model = DistributedDataParallel(model)
        own = views[:, rank * {BATCH} : (rank + 1) * {BATCH}]
        z_i, z_j = model(own.reshape(-1, {IN})).chunk(2)
        loss = objective(*gather_views(z_i, z_j))
        loss.backward()
        gradients = {{name: p.grad for name, p in model.module.named_parameters()}}
        results[name, dtype] = (loss.detach(), gradients)
results["rows"] = gather(torch.arange(4).reshape(2, 2).T + 10 * rank)  # not contiguous
with torch.no_grad():
    results["quiet"] = gather(torch.ones(1, 1, requires_grad=True)).requires_grad
try:
    gather_views(torch.ones(3 + rank, 2), torch.ones(3 + rank, 2))
except ConfigurationError as error:
    results["unequal"] = str(error)
torch.save(results, path)
distributed.destroy_process_group()
os._exit(0)  # gloo's threads sometimes abort the interpreter while it ends
"""
)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of two processes computed."""
    folder = tmp_path_factory.mktemp("ranks")
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=40))
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    paths = [folder / f"{rank}.pt" for rank in range(PROCESSES)]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), str(store.port), str(path)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, path in enumerate(paths)
    ]
    try:
        for process in running:
            _, messages = process.communicate(timeout=90)
            assert process.returncode == 0, messages
    finally:
        for process in running:
            process.kill()
    return [torch.load(path) for path in paths]


@pytest.fixture(scope="module")
def setting():
    names = {}
    exec(SETTING, names)
    return names


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-13)], ids=["f32", "f64"])
@pytest.mark.parametrize("name", ["nt_xent", "decoupled", "vicreg"])
def test_two_processes_have_the_gradients_of_one(ranks, setting, name, dtype, tolerance):
    model, views = setting["setting"](dtype)
    loss = setting["OBJECTIVES"][name](*model(views))
    loss.backward()
    largest = max(parameter.grad.abs().max().item() for parameter in model.parameters())
    assert largest > 0.01
    for computed, gradients in (rank[name, dtype] for rank in ranks):
        torch.testing.assert_close(computed, loss.detach(), rtol=tolerance, atol=tolerance)
        for key, parameter in model.named_parameters():
            torch.testing.assert_close(gradients[key], parameter.grad, rtol=0, atol=tolerance * max(largest, 1))


def test_rows_come_in_the_order_of_the_ranks(ranks):
    for rank in ranks:
        assert rank["rows"].tolist() == [[0, 2], [1, 3], [10, 12], [11, 13]]
        assert not rank["quiet"]


def test_unequal_batches_are_an_error_on_every_process(ranks):
    for rank in ranks:
        assert "batches hold 3, 4 samples (ranks 0 to 1)" in rank["unequal"]


def test_without_a_process_group_nothing_happens():
    z_i, z_j = torch.randn(3, 2), torch.randn(3, 2)
    assert gather(z_i) is z_i
    for gathered, own in zip(gather_views(z_i, z_j), (z_i, z_j), strict=True):
        torch.testing.assert_close(gathered, own, rtol=0, atol=0)


def test_a_single_process_has_the_golden_gradients_through_the_gather():
    z_i, z_j = (torch.randn(4, 3, requires_grad=True) for _ in range(2))
    objective = ObjectiveConfig().build()
    through = torch.autograd.grad(objective(*gather_views(z_i, z_j)), [z_i, z_j])
    for ours, expected in zip(through, torch.autograd.grad(objective(z_i, z_j), [z_i, z_j]), strict=True):
        torch.testing.assert_close(ours, expected)


def test_views_of_different_shapes_are_refused_before_any_message_is_sent():
    with pytest.raises(ConfigurationError, match=r"differ in shape: \(3, 2\) and \(4, 2\)"):
        gather_views(torch.ones(3, 2), torch.ones(4, 2))
