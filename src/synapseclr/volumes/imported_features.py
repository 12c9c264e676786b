"""Features in the published form, one set of ``.npy`` files for each process that made them."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from synapseclr.errors import TableError, VolumeError
from synapseclr.storage.foreign_files import NpyFolder, UnusableFileError

logger = logging.getLogger(__name__)

_NAME = re.compile(r"extracted_features__node\.(\d+)__epoch\.(\d+)__(.+)\.npy$")
_INDEX = "index_array"


@dataclass(frozen=True)
class PublishedFeatures:
    """Features by the row of ``meta.csv``.

    Attributes:
        row_n: Rows of ``meta.csv``, int64 (n,), ascending, each once.
        layers: float32 (n, f) by the layer's name.
        n_duplicates: Rows that were dropped because another process had made them too.
    """

    row_n: NDArray[np.int64]
    layers: dict[str, NDArray[np.float32]]
    n_duplicates: int


@dataclass(frozen=True)
class FeatureFiles:
    """A folder of ``extracted_features__node.<i>__epoch.<e>__<layer>.npy`` with ``..__index_array.npy``.

    Attributes:
        url: Local path or fsspec URL.
        epoch: Which epoch's; None: the only one that is there.
        storage_options: Passed to fsspec.
    """

    url: str
    epoch: int | None = None
    storage_options: Mapping[str, Any] = field(default_factory=dict)

    def read(self) -> PublishedFeatures:
        """Read all processes' files, and keep the last of the rows that several of them have, as published.

        Raises:
            VolumeError: If a file is missing, damaged, or has another number of rows than its index array.
        """
        folder = NpyFolder(self.url, self.storage_options)
        epoch, nodes, layers = self._contents(folder)
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in (_INDEX, *layers)}
        for node in nodes:
            for name, arrays in parts.items():
                arrays.append(_read(folder, f"extracted_features__node.{node}__epoch.{epoch}__{name}.npy"))
                if len(arrays[-1]) != len(parts[_INDEX][-1]) or arrays[-1].ndim != (1 if name == _INDEX else 2):
                    raise VolumeError(
                        f"{folder.url}/extracted_features__node.{node}__epoch.{epoch}__{name}.npy has the shape "
                        f"{arrays[-1].shape}, but the index array of node {node} has {parts[_INDEX][-1].shape}."
                    )
        index_n = np.concatenate(parts.pop(_INDEX)).astype(np.int64)
        row_n, from_end = np.unique(index_n[::-1], return_index=True)
        kept_n = len(index_n) - 1 - from_end
        merged = {name: np.concatenate(arrays).astype(np.float32)[kept_n] for name, arrays in parts.items()}
        return PublishedFeatures(row_n, merged, len(index_n) - len(row_n))

    def _contents(self, folder: NpyFolder) -> tuple[int, list[int], list[str]]:
        found = {(int(m[1]), int(m[2]), m[3]) for m in map(_NAME.match, folder.names) if m}
        epochs = sorted({epoch for _, epoch, _ in found})
        if (self.epoch is None and len(epochs) != 1) or (self.epoch is not None and self.epoch not in epochs):
            wanted = "one epoch, or the catalog entry's `epoch`" if self.epoch is None else f"epoch {self.epoch}"
            raise VolumeError(
                f"{folder.url} has features (extracted_features__node.<i>__epoch.<e>__<layer>.npy) of the epochs "
                f"{epochs or 'none'}, expected {wanted}."
            )
        epoch = epochs[0] if self.epoch is None else self.epoch
        found = {item for item in found if item[1] == epoch}
        nodes = sorted({node for node, _, _ in found})
        layers = sorted({layer for _, _, layer in found} - {_INDEX})
        for node in nodes:
            for layer in (_INDEX, *layers):
                if (node, epoch, layer) not in found:
                    raise VolumeError(
                        f"{folder.url} lacks extracted_features__node.{node}__epoch.{epoch}__{layer}.npy, which it has "
                        "for other nodes or layers. Copy it anew."
                    )
        return epoch, nodes, layers


def join_features(
    features: PublishedFeatures, metadata: pd.DataFrame, synapses: pd.DataFrame, position_unit_nm: tuple[float, ...]
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Say which synapse each row of features belongs to, and what is known of it.

    Args:
        features: Features by row of ``meta.csv``.
        metadata: ``meta.csv``, checked.
        synapses: The synapse table, checked.
        position_unit_nm: Size of one unit of the table's positions.

    Returns:
        - ``synapse_id, pre_root_id, post_root_id, centre_{x,y,z}_nm``, the three volumes, ``n_cutout_sections``;
        - which rows of the features these are, int64: features of synapses that the table lacks are left out, and
            counted in the log.

    Raises:
        TableError: If the index arrays name rows that ``meta.csv`` does not have, or no synapse is in the table.
    """
    if len(features.row_n) and (features.row_n[0] < 0 or features.row_n[-1] >= len(metadata)):
        raise TableError(
            f"The features' index arrays name row {features.row_n[-1]}, but meta.csv has {len(metadata)} rows. Take "
            "the meta.csv that the features were made with."
        )
    rows = metadata.iloc[features.row_n].reset_index(drop=True)
    is_known_n = rows["synapse_id"].isin(synapses["id"]).to_numpy()
    if not is_known_n.any():
        raise TableError("None of the features' synapses is in the synapse table. Check that both are of one data set.")
    if not is_known_n.all():
        missing = rows["synapse_id"][~is_known_n].tolist()
        logger.warning(
            "%d synapses have features but are not in the synapse table, such as %s: they are left out.",
            len(missing),
            missing[:3],
        )
    rows = rows[is_known_n].drop(columns="filename").reset_index(drop=True)
    found = synapses.set_index("id").loc[rows["synapse_id"]]
    for position, name in enumerate(("pre_root_id", "post_root_id"), start=1):
        rows.insert(position, name, found[name].to_numpy())
    for axis, unit_nm in zip("xyz", position_unit_nm, strict=True):
        rows[f"centre_{axis}_nm"] = found[f"ctr_pos_{axis}_vx"].to_numpy() * unit_nm
    return rows, np.flatnonzero(is_known_n)


def _read(folder: NpyFolder, name: str) -> NDArray[Any]:
    try:
        return folder.array(name)
    except UnusableFileError as error:
        raise VolumeError(f"Features cannot be imported: {error}. Copy the file anew.") from error
