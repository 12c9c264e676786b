"""Where machines meet before they train: torch elastic's dynamic rendezvous over a TCP store."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING, Any

from synapseclr.errors import ConfigurationError
from synapseclr.training.scale.config import ScaleConfig

if TYPE_CHECKING:
    from torch.distributed.elastic.rendezvous.dynamic_rendezvous import DynamicRendezvousHandler

_SERVED: dict[str, Any] = {}
"""Stores by endpoint. The hosting process keeps its own to its end: the next launch of the run meets there again."""

_N_MET = 0


def open_rendezvous(scale: ScaleConfig) -> DynamicRendezvousHandler:
    """Open the meeting place of the next launch; on one machine, a private one.

    The n-th launch of a run meets under the n-th name, so that no machine mistakes an earlier one for it.

    Raises:
        ConfigurationError: If the endpoint cannot be reached in time; names it.
    """
    from torch.distributed.elastic.rendezvous import RendezvousConnectionError, RendezvousParameters
    from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import create_backend
    from torch.distributed.elastic.rendezvous.dynamic_rendezvous import create_handler

    global _N_MET
    _N_MET += 1
    meeting = scale.rendezvous
    endpoint = meeting.endpoint if scale.nodes > 1 and meeting.endpoint else "127.0.0.1:0"
    parameters = RendezvousParameters(
        backend="c10d",
        endpoint=endpoint,
        run_id=f"{meeting.id}.{_N_MET}",
        min_nodes=scale.nodes,
        max_nodes=scale.nodes,
        local_addr=_own_address(endpoint.rpartition(":")[0]),
        join_timeout=meeting.timeout_s,
        read_timeout=meeting.timeout_s,
    )
    try:
        backend, store = create_backend(parameters)
    except RendezvousConnectionError as error:
        raise ConfigurationError(
            f"The rendezvous endpoint {endpoint} could not be reached within {meeting.timeout_s} s "
            f"({_root(error)}). Check that the command runs on that machine, that rendezvous.endpoint names it and "
            "a free port, and that no firewall is between; rendezvous.timeout_s is how long to wait."
        ) from error
    if scale.nodes > 1:
        _SERVED[endpoint] = store
    return create_handler(store, backend, parameters)


def explain(error: Exception, scale: ScaleConfig) -> ConfigurationError | None:
    """Say of a rendezvous that failed what happened and what to do; None for other errors."""
    from torch.distributed.elastic.rendezvous import (
        RendezvousClosedError,
        RendezvousConnectionError,
        RendezvousError,
        RendezvousTimeoutError,
    )

    meeting = scale.rendezvous
    where = f"the rendezvous '{meeting.id}' at {meeting.endpoint}"
    if isinstance(error, RendezvousTimeoutError):
        return ConfigurationError(
            f"nodes is {scale.nodes}, but not so many machines came to {where} within {meeting.timeout_s} s. Run the "
            "same command on every machine, with the same nodes, rendezvous.endpoint and rendezvous.id."
        )
    if isinstance(error, RendezvousClosedError):
        return ConfigurationError(
            f"An earlier job has closed {where}. End what is left of it on that machine, or choose another "
            "rendezvous.id on every machine."
        )
    if isinstance(error, RendezvousConnectionError):
        return ConfigurationError(
            f"The connection to {where} was lost: the machine that hosts it has ended or cannot be reached any more. "
            "Its output names the cause. Run the same command again on every machine to continue from the last "
            "checkpoint."
        )
    if isinstance(error, RendezvousError):
        return ConfigurationError(f"{where.capitalize()} failed: {_root(error)}.")
    return None


def _own_address(endpoint_host: str) -> str | None:
    """The address that this machine has towards the endpoint; None, its host name, where that says nothing."""
    try:
        family, _, _, _, address = socket.getaddrinfo(endpoint_host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # sends nothing
            own = str(probe.getsockname()[0])
    except OSError:
        return None
    wants_loopback = endpoint_host == "localhost" or _is_loopback(endpoint_host)
    return None if _is_loopback(own) and not wants_loopback else own


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _root(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:200].rstrip(".")
