"""Batch norm in two real processes against torch's on the concatenated batch."""

import os
import subprocess
import sys
from datetime import timedelta

import pytest
import torch
from torch import distributed, nn

from synapseclr.training.batch_norm import SynchronisedBatchNorm, synchronise_batch_norm

SIZES = (3, 5)  # the processes' batches differ in size
STEPS = 2

SETTING = f"""
import torch
from torch import nn

class Network(nn.Module):
    def __init__(self, momentum):
        super().__init__()
        self.volumes = nn.Sequential(nn.Conv3d(2, 3, 3, bias=False), nn.BatchNorm3d(3, momentum=momentum), nn.ReLU())
        middle = nn.BatchNorm1d(4, affine=False)
        self.vectors = nn.Sequential(nn.Linear(3, 4, bias=False), middle, nn.Linear(4, 2))
    def forward(self, x):
        return self.vectors(self.volumes(x).mean((2, 3, 4)))

def setting(dtype, momentum):
    torch.manual_seed(0)
    model = Network(momentum).to(dtype)
    nn.init.uniform_(model.volumes[1].weight)
    return model, torch.randn({STEPS}, {sum(SIZES)}, 2, 5, 5, 4, dtype=dtype) * 3 + 100, torch.randn({sum(SIZES)}, 2)

CASES = [(dtype, momentum) for dtype in (torch.float32, torch.float64) for momentum in (0.1, None)]

def losses(model, x, target):
    x = x.detach().requires_grad_()
    output = model(x)
    loss = ((output - target) ** 3).sum()
    loss.backward()
    return output.detach(), x.grad
"""

WORKER = (
    SETTING
    + f"""
import sys
from datetime import timedelta
from torch import distributed
from synapseclr.training.batch_norm import synchronise_batch_norm
rank, port, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
store = distributed.TCPStore("127.0.0.1", port, is_master=False, timeout=timedelta(seconds=60))
distributed.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
own = slice(0, {SIZES[0]}) if rank == 0 else slice({SIZES[0]}, None)
results = {{}}
for dtype, momentum in CASES:
    model, x, target = setting(dtype, momentum)
    synchronise_batch_norm(model)
    steps = [losses(model, x[step, own], target[own].to(dtype)) for step in range({STEPS})]
    for parameter in model.parameters():
        distributed.all_reduce(parameter.grad)
    gradients = {{name: parameter.grad for name, parameter in model.named_parameters()}}
    results[dtype, momentum] = steps, gradients, model.state_dict()
    with torch.no_grad():
        results[dtype, momentum] += (model.eval()(x[0, own]),)
model, x, target = setting(torch.float32, 0.1)
synchronise_batch_norm(model)
x = x[0, own].to(memory_format=torch.channels_last_3d)
with torch.autocast("cpu", dtype=torch.bfloat16):
    volumes = model.volumes(x)
    losses(model, x, target[own])
results["autocast"] = volumes.dtype, volumes.is_contiguous(memory_format=torch.channels_last_3d), volumes.detach()
torch.save(results, path)
distributed.destroy_process_group()
"""
)


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=60))
    variables = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    paths = [folder / f"{rank}.pt" for rank in range(2)]
    commands = [[sys.executable, "-c", WORKER, str(rank), str(store.port), str(paths[rank])] for rank in range(2)]
    started = [subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True) for command in commands]
    try:
        errors = [process.communicate(timeout=120)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(errors)
    return [torch.load(path, weights_only=False) for path in paths]


@pytest.fixture(scope="module")
def shared():
    names = {}
    exec(SETTING, names)
    return names


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_two_processes_equal_one_with_the_whole_batch(processes, shared, dtype, tolerance, momentum):
    model, x, target = shared["setting"](dtype, momentum)
    expected = [shared["losses"](model, x[step], target.to(dtype)) for step in range(STEPS)]

    def close(found, wanted):
        torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance * float(wanted.abs().max()))

    for step in range(STEPS):
        for part in range(2):  # outputs, then gradients with respect to the inputs
            close(torch.cat([process[dtype, momentum][0][step][part] for process in processes]), expected[step][part])
    for process in processes:
        _, gradients, state, _ = process[dtype, momentum]
        assert list(state) == list(model.state_dict())
        for name, tensor in model.state_dict().items():
            close(state[name].double(), tensor.double())
        for name, parameter in model.named_parameters():
            close(gradients[name], parameter.grad)
    evaluated = model.eval()(x[0]).detach()
    close(torch.cat([process[dtype, momentum][3] for process in processes]), evaluated)


def test_under_autocast_type_and_layout_stay(processes, shared):
    model, x, _ = shared["setting"](torch.float32, 0.1)
    expected = model.volumes(x[0]).detach()
    for process in processes:
        dtype, channels_last, _ = process["autocast"]
        assert dtype == torch.bfloat16
        assert channels_last
    found = torch.cat([process["autocast"][2] for process in processes]).float()
    assert float((found - expected).abs().mean()) < 0.05 * float(expected.std())


def test_one_process_is_plain_batch_norm():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    other.load_state_dict(plain.state_dict())
    synchronise_batch_norm(other)
    x = torch.randn(5, 3)
    assert torch.equal(plain(x), other(x))
    assert torch.equal(plain.eval()(x), other.eval()(x))
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])


def test_the_model_keeps_its_parameters_and_keys(tiny_config):
    model = tiny_config.model.build(0)
    keys, parameters = list(model.state_dict()), list(model.parameters())
    n_norms = sum(isinstance(module, nn.BatchNorm1d | nn.BatchNorm3d) for module in model.modules())
    converted = synchronise_batch_norm(synchronise_batch_norm(model.eval()))
    assert converted is model
    assert list(model.state_dict()) == keys
    assert all(ours is theirs for ours, theirs in zip(model.parameters(), parameters, strict=True))
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == n_norms > 10
    assert all(type(norm) is SynchronisedBatchNorm and not norm.training for norm in norms)
