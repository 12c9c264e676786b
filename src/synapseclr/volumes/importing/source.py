"""Where chunks come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from synapseclr.errors import ConfigurationError
from synapseclr.volumes.store.chunk_layout import MASK_CODES

SourceKind = Literal["volumes", "processed_chunks", "raw_chunks"]


@dataclass(frozen=True)
class ChunkSource:
    """A choice of source. Cheap to make and to copy; nothing is read before the chunks are.

    Attributes:
        kind: ``volumes``: cut out of the EM, segmentation and cleft volume. ``processed_chunks``: a folder in the
            published form, ``<id>__2_<x>_<y>_<z>.npy`` with ``meta.csv``. ``raw_chunks``: a folder of ``<id>.npy``
            (EM) and ``<id>_mask.npy`` (mask), of which the central part is taken.
        url: Local path or fsspec URL of the folder; empty for ``volumes``.
        mask_url: Folder of the masks of ``raw_chunks``, if it is another one.
        mask_codes: What the codes in the files' masks mean, by name: ``background``, ``pre_synaptic_neuron``,
            ``synaptic_cleft``, ``post_synaptic_neuron``. For objects other than synapses, the object itself takes the
            place of ``synaptic_cleft``. None: the codes 0 to 3, in this order.
        storage_options: Passed to fsspec.
    """

    kind: SourceKind = "volumes"
    url: str = ""
    mask_url: str | None = None
    mask_codes: Mapping[int, str] | None = None
    storage_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in get_args(SourceKind):
            raise ConfigurationError(
                f"The chunk source's kind is '{self.kind}'. Choose one of: {', '.join(get_args(SourceKind))}."
            )
        if (self.kind == "volumes") == bool(self.url):
            wanted = "no folder: remove it" if self.url else "the folder's path or URL"
            raise ConfigurationError(f"The chunk source of kind '{self.kind}' needs {wanted}.")
        unknown = [name for name in (self.mask_codes or {}).values() if name not in MASK_CODES]
        if unknown:
            raise ConfigurationError(
                f"The chunk source's mask_codes name '{unknown[0]}'. Known are {', '.join(MASK_CODES)}."
            )

    @property
    def code_table(self) -> NDArray[np.uint8]:
        """Our mask code by the file's, uint8 (256,); 255 where the file's code has no meaning."""
        table = np.full(256, 255, np.uint8)
        for code, name in (self.mask_codes or {code: name for name, code in MASK_CODES.items()}).items():
            table[int(code)] = MASK_CODES[name]
        return table
