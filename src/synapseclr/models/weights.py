"""Weights together with the architecture that they fit, as one safetensors file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synapseclr.errors import CheckpointError
from synapseclr.models.config import ModelConfig
from synapseclr.storage.declared_sizes import parse_json

if TYPE_CHECKING:
    from torch import Tensor

    from synapseclr.models.simclr import SimCLR

FILE_NAME = "encoder_weights.safetensors"
"""The name under which the pipeline logs weights and :func:`synapseclr.models.export` writes them."""

_FORMAT = "synapseclr-1"


@dataclass(frozen=True)
class EncoderWeights:
    """A SimCLR state dict and its architecture.

    Attributes:
        state_dict: Tensors under the published keys (``encoder.conv1.weight``, ..., ``projector.mlp.3.weight``).
        model: Architecture.
        provenance: Free text values that travel in the file's header (seed, epochs, run id, ...).
    """

    state_dict: dict[str, Tensor]
    model: ModelConfig
    provenance: dict[str, str]

    @property
    def sha256(self) -> str:
        """Digest over names, shapes and bytes of all tensors, independent of the provenance."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict.items()):
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def build(self) -> SimCLR:
        """Make the model with these weights, in evaluation mode.

        Raises:
            CheckpointError: If the weights do not fit the architecture; names the first differing tensors.
        """
        model = self.model.build(seed=0)
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        found = {name: tuple(tensor.shape) for name, tensor in self.state_dict.items()}
        if expected != found:
            differing = sorted(name for name in expected | found if expected.get(name) != found.get(name))
            first = "; ".join(f"{n}: expected {expected.get(n)}, found {found.get(n)}" for n in differing[:3])
            raise CheckpointError(
                f"The weights do not fit {self.model.encoder} (width {self.model.width_factor}): {len(differing)} "
                f"tensors differ. {first}. Use the configuration that the weights were trained with."
            )
        model.load_state_dict(self.state_dict)
        return model.eval()

    def to_bytes(self) -> bytes:
        """Serialise as safetensors with the architecture in the header."""
        from safetensors.torch import save

        header = {"format": _FORMAT, "model": self.model.model_dump_json(), "provenance": json.dumps(self.provenance)}
        return save({name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict.items()}, header)

    @classmethod
    def from_bytes(cls, data: bytes, source: str) -> EncoderWeights:
        """Read what :meth:`to_bytes` wrote; ``source`` names the file in errors."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            state_dict = load(data)
            header_length = int.from_bytes(data[:8], "little")
            metadata = parse_json(data[8 : 8 + header_length]).get("__metadata__", {})
        except (SafetensorError, ValueError) as error:
            raise CheckpointError(
                f"{source} is not a readable safetensors file ({error}). Train or copy it anew."
            ) from error
        if metadata.get("format") != _FORMAT:
            raise CheckpointError(
                f"{source} holds tensors but not a SynapseCLR model: its header lacks format '{_FORMAT}'. "
                "Write it with synapseclr.models.EncoderWeights."
            )
        try:
            return cls(
                state_dict,
                ModelConfig.model_validate_json(metadata["model"]),
                parse_json(metadata["provenance"]),
            )
        except (KeyError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{source} has a header that this version cannot read ({reason}). Load it with the version of "
                "synapseclr that wrote it."
            ) from error
