"""An OME-Zarr volume as a Kedro dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import fsspec
from kedro.io import AbstractDataset, DatasetError

from synapseclr.volumes.layers.layer import VolumeLayer
from synapseclr.volumes.layers.ome_zarr import split_zip


class OmeZarrVolumeDataset(AbstractDataset[None, VolumeLayer]):
    """Loads a :class:`VolumeLayer` handle on an OME-Zarr image or label image (NGFF 0.4 or 0.5); reads nothing yet.

    Axes may come in any order, voxels are placed by the file's scales, translations and units.

    Example catalog entry::

        segmentation_volume:
          type: synapseclr.datasets.OmeZarrVolumeDataset
          filepath: gs://bucket/volume.ome.zarr/labels/neurons
          role: segmentation volume       # what error messages call it
          credentials: gcs                # of conf/<env>/credentials.yml; as fsspec takes them

    Args:
        filepath: Local path or fsspec URL of the group that holds `multiscales`; or a zip file (``.zip``, ``.ozx``) on
            this machine, with the path of the group in it.
        role: What error messages call it.
        channel: Which channel, where there are several; without it several channels are an error.
        unit: Unit of the axes, such as ``nanometer``; goes before the file's.
        credentials: Passed to fsspec.
    """

    def __init__(
        self,
        *,
        filepath: str,
        role: str = "volume",
        channel: int | None = None,
        unit: str | None = None,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        uri = filepath if "://" in filepath else f"file://{Path(filepath).resolve()}"
        self._layer = VolumeLayer(uri.rstrip("/"), role, credentials, "ome_zarr", channel, unit)
        self.metadata = metadata

    def load(self) -> VolumeLayer:
        """Return the handle; the volume is opened when it is read."""
        return self._layer

    def save(self, data: None) -> NoReturn:
        """Not possible: the simulation writes precomputed volumes."""
        raise DatasetError(f"{self._layer.uri} is an OME-Zarr volume, which is read and never written.")

    def _exists(self) -> bool:
        zipped = split_zip(self._layer.uri)
        if zipped is not None and self._layer.is_local and Path(zipped[0].removeprefix("file://")).is_file():
            return True
        filesystem, path = fsspec.core.url_to_fs(self._layer.uri, **(self._layer.storage_options or {}))
        return any(filesystem.exists(f"{path}/{name}") for name in ("zarr.json", ".zattrs"))

    def _describe(self) -> dict[str, Any]:
        return {"uri": self._layer.uri, "role": self._layer.role, "channel": self._layer.channel}
