"""On how many devices and machines something runs, as validated parameters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from synapseclr.errors import ConfigurationError


class RendezvousConfig(BaseModel):
    """How machines find each other: through a key-value store that one of them hosts (torch elastic's ``c10d``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: str | None = Field(
        None, description="host:port of the machine that hosts the meeting place; the same on every machine."
    )
    id: str = Field("synapseclr", min_length=1, description="Name of the job, where one endpoint serves several.")
    timeout_s: int = Field(600, ge=1, description="How long a machine waits for the endpoint, and for the others.")

    @field_validator("endpoint")
    @classmethod
    def _names_a_port(cls, endpoint: str | None) -> str | None:
        host, _, port = (endpoint or "host:1").rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 2**16:
            raise ValueError(f"rendezvous.endpoint is '{endpoint}', expected host:port, such as node01:29400.")
        return endpoint


class ScaleConfig(BaseModel):
    """Processes to run on. The defaults are one process: the one that runs already."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        1, description="Processes on each machine, one a GPU (or so many on the CPU); auto: as many as there are GPUs."
    )
    nodes: int = Field(1, ge=1, description="Machines; each runs the same command.")
    rendezvous: RendezvousConfig = Field(default_factory=RendezvousConfig)

    @model_validator(mode="after")
    def _machines_can_meet(self) -> ScaleConfig:
        if self.nodes > 1 and self.rendezvous.endpoint is None:
            raise ValueError(
                f"nodes is {self.nodes}, but rendezvous.endpoint is not set. Set it to host:port of one of the "
                "machines, the same on all of them."
            )
        return self

    def is_one_process(self, on_gpu: bool | None) -> bool:
        """Whether one process on one machine does it all; ``on_gpu`` as in :meth:`devices_here`."""
        return self.nodes == 1 and self.devices_here(on_gpu) == 1

    def devices_here(self, on_gpu: bool | None) -> int:
        """Number of processes on this machine.

        Args:
            on_gpu: Whether each process takes a GPU; None: if the machine has one.

        Raises:
            ConfigurationError: If there are fewer GPUs than devices.
        """
        n_gpus = _count_gpus() if on_gpu is not False and (self.devices != 1 or on_gpu) else 0
        if self.devices == "auto":
            return max(1, n_gpus)
        if self.devices > 1 and (n_gpus or on_gpu) and self.devices > n_gpus:
            raise ConfigurationError(
                f"devices is {self.devices}, but this machine has {n_gpus} GPU{'' if n_gpus == 1 else 's'}. Set "
                "devices to auto or to at most as many, or compute on the CPU."
            )
        return self.devices


def _count_gpus() -> int:
    import torch

    return torch.cuda.device_count()
