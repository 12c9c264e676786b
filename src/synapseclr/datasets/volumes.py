"""Volumes as Kedro datasets: Neuroglancer precomputed and whatever else CloudVolume reads, graphene, OME-Zarr, HDF5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from synapseclr.datasets.files import ReadOnlyDataset
from synapseclr.errors import ConfigurationError
from synapseclr.storage.addresses import cave_token, cloud_secrets, file_url, is_local, open_filesystem, plain_address
from synapseclr.storage.atomic_files import folder_written_whole
from synapseclr.volumes.cave_service import CaveService
from synapseclr.volumes.layers.graphene import GrapheneLayer
from synapseclr.volumes.layers.hdf5 import Hdf5Layer
from synapseclr.volumes.layers.layer import LayerType, VolumeArray, VolumeLayer
from synapseclr.volumes.layers.ome_zarr import OmeZarrLayer, split_zip
from synapseclr.volumes.layers.precomputed import PrecomputedLayer, write_precomputed
from synapseclr.volumes.root_versions import as_utc

LAYOUTS = {
    "precomputed": ("info",),
    "n5": ("attributes.json",),
    "zarr": (".zattrs", "zarr.json"),
    "zarr2": (".zattrs",),
    "zarr3": ("zarr.json",),
}
"""Files by which CloudVolume knows the layouts that may stand in front of an address."""


class PrecomputedVolumeDataset(AbstractDataset[VolumeArray, VolumeLayer]):
    """Loads a :class:`VolumeLayer` handle, reads nothing yet; saves a :class:`VolumeArray` as precomputed.

    Example catalog entry::

        em_volume:
          type: synapseclr.datasets.PrecomputedVolumeDataset
          filepath: gs://bucket/em        # a local path or any CloudVolume address
          layer_type: image               # or segmentation
          role: EM volume                 # what error messages call it
          credentials: gcs                # of conf/<env>/credentials.yml; as fsspec takes them

    Args:
        filepath: A local path or any CloudVolume address, such as ``n5://file:///lab/em.n5``.
        layer_type: ``image`` or ``segmentation``.
        role: What error messages call it.
        channel: Which channel, where there are several; without it several channels are an error.
        unit: Unit of an N5's voxel sizes, such as ``um``; goes before the file's. Precomputed volumes are in nm.
        fill_missing: Whether storage blocks that do not exist are background, id 0: label layers are often written
            without their empty blocks. Images may not have it; there a missing block is missing data.
        materialization_version: CAVE's number of the version that a flat segmentation has the root ids of. The check
            before the cutting refuses a synapse table of another one.
        credentials: As fsspec takes them.
        metadata: Of other Kedro plugins.
    """

    def __init__(
        self,
        *,
        filepath: str,
        layer_type: str,
        role: str = "volume",
        channel: int | None = None,
        unit: str | None = None,
        fill_missing: bool = False,
        materialization_version: int | None = None,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        if layer_type not in ("image", "segmentation"):
            raise DatasetError(f"layer_type of {filepath} is '{layer_type}'; choose image or segmentation.")
        if fill_missing and layer_type == "image":
            raise DatasetError(
                f"fill_missing is set for {filepath}, an image: black blocks would take the place of missing ones. It "
                "is for label layers (layer_type: segmentation), where a missing block is background. Remove it."
            )
        if unit is not None and not filepath.startswith("n5://"):
            raise DatasetError(
                f"unit is set for {filepath}, whose resolutions are in nm by definition; only an N5 (n5://) has units "
                "of its own. Remove it, and set voxel_size_nm to the resolution that the volume names."
            )
        self._filepath = filepath
        self._layer_type = layer_type
        self._role = role
        self._channel = channel
        self._unit = unit
        self._fill_missing = fill_missing
        self._materialization_version = materialization_version
        self._storage_options = credentials
        self.metadata = metadata

    @property
    def uri(self) -> str:
        """The address as CloudVolume takes it."""
        layout, _, place = self._filepath.partition("://")
        if layout in LAYOUTS:  # a place without a protocol is a path, and local too
            return f"{layout}://{file_url(place)}"
        return file_url(self._filepath)

    def load(self) -> VolumeLayer:
        """Return the handle; the volume is opened when it is read."""
        layer_type: LayerType = "image" if self._layer_type == "image" else "segmentation"
        return PrecomputedLayer(
            self.uri,
            self._role,
            self._storage_options,
            channel=self._channel,
            unit=self._unit,
            layer_type=layer_type,
            fill_missing=self._fill_missing,
            materialization_version=self._materialization_version,
        )

    def save(self, data: VolumeArray) -> None:
        """Write the volume. A precomputed volume that is already there is replaced, anything else is left alone."""
        if not is_local(self.uri):
            self._write(data, self.uri)
            return
        folder = Path(plain_address(self.uri))
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
        layout, _, address = self.uri.partition("://")
        files = CloudFiles(address if layout in LAYOUTS else self.uri, secrets=secrets)
        return any(bool(files.exists(name)) for name in LAYOUTS.get(layout, LAYOUTS["precomputed"]))

    def _describe(self) -> dict[str, Any]:
        return {"uri": self.uri, "layer_type": self._layer_type, "role": self._role}


class GrapheneVolumeDataset(ReadOnlyDataset[VolumeLayer]):
    """Loads a :class:`VolumeLayer` handle on a segmentation that a chunked graph agglomerates; reads no voxel yet.

    Its voxels are root ids of one moment, never supervoxels.

    Example catalog entry::

        segmentation_volume:
          type: synapseclr.datasets.GrapheneVolumeDataset
          filepath: graphene://https://minnie.microns-daf.com/segmentation/table/minnie3_v1
          datastack: minnie65_public      # with the table's version, or `timestamp: 2024-01-22T08:10:01` (UTC) alone
          materialization_version: 943
          role: segmentation volume       # what error messages call it

    Args:
        filepath: Address of the graph, ``graphene://https://...``.
        timestamp: Moment (UTC) of the root ids; None: that of the version.
        datastack: Whose version it is.
        materialization_version: CAVE's number of the version, whose moment the server of the datastack tells.
        server_address: Of the global server of the datastack; None: the one that caveclient knows.
        role: What error messages call it.
        fill_missing: Whether storage blocks of supervoxels that do not exist are background.
        use_https: Read a bucket's supervoxels over https, without credentials; false for a private bucket.
        credentials: ``token``; None: that of ``cave`` in ``conf/local/credentials.yml``, or the one that CloudVolume
            has saved.
        metadata: Of other Kedro plugins.
    """

    refusal = "{filepath} is a chunked graph, which is read and never written."

    def __init__(
        self,
        *,
        filepath: str,
        timestamp: str | float | None = None,
        datastack: str | None = None,
        materialization_version: int | None = None,
        server_address: str | None = None,
        role: str = "segmentation volume",
        fill_missing: bool = False,
        use_https: bool = True,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        if not filepath.startswith("graphene://"):
            raise ConfigurationError(
                f"{filepath} is no chunked graph: its address has no graphene:// in front. A flat segmentation needs "
                "`type: synapseclr.datasets.PrecomputedVolumeDataset`."
            )
        if timestamp is None and (datastack is None or materialization_version is None):
            raise ConfigurationError(
                f"The entry of {filepath} does not say as of when its root ids are. Set `timestamp`, or `datastack` "
                "and `materialization_version`, those of the synapse table."
            )
        self._filepath = filepath
        self._moment = None if timestamp is None else as_utc(timestamp)
        self._version = materialization_version
        token = cave_token(credentials)
        self._service = None if datastack is None else CaveService(datastack, server_address, token)
        self._role, self._fill_missing, self._use_https = role, fill_missing, use_https
        self._credentials = None if token is None else {"token": token}
        self.metadata = metadata

    def load(self) -> VolumeLayer:
        """Return the handle; the server of the datastack is asked when the version was.

        Raises:
            TableError: If the datastack does not have the version.
            UnreachableError: If the server does not answer, or does not accept the token.
        """
        if self._moment is None and self._service is not None and self._version is not None:
            self._moment = self._service.moment_of(self._version)
        assert self._moment is not None
        return GrapheneLayer(
            self._filepath,
            self._role,
            self._credentials,
            layer_type="segmentation",
            fill_missing=self._fill_missing,
            materialization_version=self._version,
            timestamp=self._moment.timestamp(),
            use_https=self._use_https,
        )

    def _describe(self) -> dict[str, Any]:
        moment = None if self._moment is None else self._moment.isoformat()
        return {"filepath": self._filepath, "timestamp": moment, "materialization_version": self._version}


class OmeZarrVolumeDataset(ReadOnlyDataset[VolumeLayer]):
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

    refusal = "{uri} is an OME-Zarr volume, which is read and never written."

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
        self._layer = OmeZarrLayer(file_url(filepath).rstrip("/"), role, credentials, channel, unit)
        self.metadata = metadata

    def load(self) -> VolumeLayer:
        """Return the handle; the volume is opened when it is read."""
        return self._layer

    def _exists(self) -> bool:
        zipped = split_zip(self._layer.uri)
        if zipped is not None and self._layer.is_local and Path(zipped[0]).is_file():
            return True
        filesystem, path = open_filesystem(self._layer.uri, self._layer.storage_options)
        return any(filesystem.exists(f"{path}/{name}") for name in ("zarr.json", ".zattrs"))

    def _describe(self) -> dict[str, Any]:
        return {"uri": self._layer.uri, "role": self._layer.role, "channel": self._layer.channel}


class Hdf5VolumeDataset(ReadOnlyDataset[VolumeLayer]):
    """Loads a :class:`VolumeLayer` handle on an array of an HDF5 file, as CREMI publishes them; reads nothing yet.

    Arrays are (z, y, x), with the attributes ``resolution`` and ``offset`` in nm. The highest ids, by which BigCat
    marks voxels without a label, are read as 0.

    Example catalog entry::

        cleft_volume:
          type: synapseclr.datasets.Hdf5VolumeDataset
          filepath: sample_A_20160501.hdf
          array: volumes/labels/clefts
          role: cleft volume              # what error messages call it

    Args:
        filepath: Local path or fsspec URL of the file.
        array: Path of the array in the file.
        role: What error messages call it.
        credentials: Passed to fsspec.
    """

    refusal = "{uri} is an HDF5 file, which is read and never written."

    def __init__(
        self,
        *,
        filepath: str,
        array: str,
        role: str = "volume",
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._layer = Hdf5Layer(file_url(filepath), role, credentials, array=array)
        self.metadata = metadata

    def load(self) -> VolumeLayer:
        """Return the handle; the file is opened when it is read."""
        return self._layer

    def _exists(self) -> bool:
        filesystem, path = open_filesystem(self._layer.uri, self._layer.storage_options)
        return bool(filesystem.exists(path))

    def _describe(self) -> dict[str, Any]:
        return {"uri": self._layer.uri, "array": self._layer.array, "role": self._layer.role}
