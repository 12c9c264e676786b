"""The explorer as a folder of files, for any web server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from synapseclr.errors import ConfigurationError
from synapseclr.explorer.answers import overview, synapse_details
from synapseclr.explorer.images import ByteCache, SynapseImages
from synapseclr.explorer.run_outputs import RunOutputs
from synapseclr.explorer.web_server import ASSETS, PICTURES, read_asset

_MARKER = ".synapseclr-explorer"


def export_explorer(
    outputs: RunOutputs, folder: Path, max_pictured: int, seed: int = 0, progress: Callable[[int], None] | None = None
) -> int:
    """Write the page, its data, and pictures of synapses.

    Args:
        outputs: The run.
        folder: A new or empty folder, or an earlier export, which is overwritten.
        max_pictured: Number of synapses with details and pictures, drawn at random if there are more.
        seed: Seed of that draw.
        progress: Called with the number done.

    Returns:
        Number of synapses with pictures.

    Raises:
        ConfigurationError: If the folder holds something else.
    """
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / _MARKER).exists())):
        raise ConfigurationError(f"{folder} exists and is no export of the explorer. Choose a new or empty folder.")
    _write(folder / _MARKER, b"")
    for name in (*ASSETS, "plotly.min.js"):
        _write(folder / ("index.html" if name == "index.html" else f"assets/{name}"), read_asset(name))
    api = folder / "api"
    images = SynapseImages(outputs.chunks, ByteCache(0)) if outputs.chunks is not None else None
    chosen = _chosen(outputs, max_pictured, seed)
    about = overview(outputs, can_save=False) | {"is_static": True}
    if len(chosen) < len(outputs):
        note = f"This copy has details and pictures of {len(chosen):,} of {len(outputs):,} synapses."
        about["notes"] = [*about["notes"], note]
    _write(api / "overview.json", _json(about))
    _write(api / "ids.bin", outputs.synapse_id.astype("<i8").tobytes())
    for number, plane_nd in enumerate(outputs.planes.values()):
        _write(api / f"plane/{number}.bin", plane_nd.T.astype("<f4").tobytes())
    for name, values_n in outputs.roots.items():
        _write(api / f"roots/{name}.bin", values_n.astype("<u8").tobytes())
    for number, column in enumerate(outputs.columns.values()):
        _write(api / f"column/{number}.bin", column.values_n.astype("<f4").tobytes())
    for done, synapse_id in enumerate(chosen, start=1):
        _export_synapse(outputs, images, synapse_id, api / "synapse" / str(synapse_id))
        if progress:
            progress(done)
    return len(chosen)


def _chosen(outputs: RunOutputs, max_pictured: int, seed: int) -> list[int]:
    everyone = outputs.synapse_id
    if len(everyone) <= max_pictured:
        return [int(identifier) for identifier in everyone]
    rng = np.random.default_rng(seed)
    return [int(everyone[row]) for row in np.sort(rng.choice(len(everyone), size=max_pictured, replace=False))]


def _export_synapse(outputs: RunOutputs, images: SynapseImages | None, synapse_id: int, folder: Path) -> None:
    _write(folder / "details.json", _json(synapse_details(outputs, images, synapse_id)))
    position = outputs.chunk_row_of_id.get(synapse_id)
    if images is not None and position is not None:
        for name, (kind, _) in PICTURES.items():
            _write(folder / name, images.picture(kind, position))


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
