"""Whether this machine can do what the configuration asks for, said before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from synapseclr.errors import ConfigurationError

if TYPE_CHECKING:
    from synapseclr.training.config import PretrainingConfig


def check_hardware(config: PretrainingConfig) -> None:
    """Check precision and compilation against the device that will train.

    Raises:
        ConfigurationError: If half precision is asked for without a GPU, or nothing can be compiled here.
    """
    on_gpu = config.accelerator != "cpu" and torch.cuda.is_available()
    if config.precision == "16-mixed" and not on_gpu:
        raise ConfigurationError(
            "pretraining.precision is 16-mixed, which needs a GPU, and the training runs on the CPU (accelerator "
            f"'{config.accelerator}'). Set it to bf16-mixed or 32-true."
        )
    if config.compile:
        _check_compiler("cuda" if on_gpu else "cpu")


def _check_compiler(device: str) -> None:
    """Compile one small function: that finds out more than a look for a compiler's name."""
    try:
        torch.compile(lambda x: torch.relu(x) + 1, dynamic=False)(torch.ones(8, device=device))
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigurationError(
            f"pretraining.compile is true, but torch cannot compile for {device} here ({reason}). Install a C++ "
            "compiler (g++, or the one that the environment variable CXX names), or set pretraining.compile to false."
        ) from error
