"""A Neuroglancer precomputed volume (or whatever else CloudVolume reads) as a Kedro dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from synapseclr.atomic_files import folder_written_whole
from synapseclr.volumes.layers.cloud_secrets import cloud_secrets
from synapseclr.volumes.layers.layer import VolumeArray, VolumeLayer
from synapseclr.volumes.layers.precomputed import write_precomputed


class PrecomputedVolumeDataset(AbstractDataset[VolumeArray, VolumeLayer]):
    """Loads a :class:`VolumeLayer` handle, reads nothing yet; saves a :class:`VolumeArray` as precomputed.

    Example catalog entry::

        em_volume:
          type: synapseclr.datasets.PrecomputedVolumeDataset
          filepath: gs://bucket/em        # a local path or any CloudVolume address
          layer_type: image               # or segmentation
          role: EM volume                 # what error messages call it
          credentials: gcs                # of conf/<env>/credentials.yml; as fsspec takes them
    """

    def __init__(
        self,
        *,
        filepath: str,
        layer_type: str,
        role: str = "volume",
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        if layer_type not in ("image", "segmentation"):
            raise DatasetError(f"layer_type of {filepath} is '{layer_type}'; choose image or segmentation.")
        self._filepath = filepath
        self._layer_type = layer_type
        self._role = role
        self._storage_options = credentials
        self.metadata = metadata

    @property
    def uri(self) -> str:
        """The address as CloudVolume takes it."""
        return self._filepath if "://" in self._filepath else f"file://{Path(self._filepath).resolve()}"

    def load(self) -> VolumeLayer:
        """Return the handle; the volume is opened when it is read."""
        return VolumeLayer(self.uri, self._role, self._storage_options)

    def save(self, data: VolumeArray) -> None:
        """Write the volume. A precomputed volume that is already there is replaced, anything else is left alone."""
        if not self.uri.startswith("file://"):
            self._write(data, self.uri)
            return
        folder = Path(self.uri.removeprefix("file://"))
        if folder.exists() and any(folder.iterdir()) and not (folder / "info").exists():
            raise DatasetError(
                f"{folder} holds files but no precomputed volume; it is not overwritten. Move it away first."
            )
        with folder_written_whole(folder) as written:
            self._write(data, f"file://{written}")

    def _write(self, data: VolumeArray, uri: str) -> None:
        write_precomputed(
            data.array_xyz, uri, data.voxel_size_nm, self._layer_type, storage_options=self._storage_options
        )

    def _exists(self) -> bool:
        from cloudfiles import CloudFiles

        secrets = cloud_secrets(self.uri, self._storage_options)
        return bool(CloudFiles(self.uri.removeprefix("precomputed://"), secrets=secrets).exists("info"))

    def _describe(self) -> dict[str, Any]:
        return {"uri": self.uri, "layer_type": self._layer_type, "role": self._role}
