"""Segmentations that a chunked graph agglomerates: supervoxels in storage, root ids by the graph's server.

CloudVolume reads the supervoxels of a block and asks the graph which roots they had at a moment. Without a moment, ids
would change with every correction; without the graph, they would be supervoxels, among which no root id occurs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

from synapseclr.errors import UnreachableError, VolumeError
from synapseclr.volumes.layers.precomputed import OpenPrecomputed, PrecomputedLayer
from synapseclr.volumes.root_versions import RootVersion


@dataclass(frozen=True)
class GrapheneLayer(PrecomputedLayer):
    """A segmentation at ``graphene://``, read as root ids of one moment.

    Attributes:
        timestamp: Moment of the root ids, in seconds since 1970.
        use_https: Read the supervoxels of a bucket over https, without credentials.
    """

    timestamp: float = 0.0
    use_https: bool = True

    agglomerates: ClassVar[bool] = True

    @property
    def root_version(self) -> RootVersion:
        """Version of the root ids."""
        return RootVersion(self.materialization_version, datetime.fromtimestamp(self.timestamp, UTC))

    def _open_volume(self) -> Any:
        from cloudvolume import CloudVolume
        from cloudvolume.exceptions import AuthenticationError

        token = dict(self.storage_options or {}).get("token")
        try:
            volume = CloudVolume(
                self.uri,
                mip=0,
                progress=False,
                fill_missing=self.fill_missing,
                agglomerate=True,
                timestamp=self.timestamp,
                use_https=self.use_https,
                secrets={"token": token} if token else None,
            )
        except AuthenticationError as error:
            raise UnreachableError(
                f"The graph server of the {self.role} at {self.uri} asks for a token, and there is none that can be "
                f"used. {_WHERE}"
            ) from error
        if not volume.agglomerate or "graph" not in volume.info:
            raise VolumeError(
                f"The {self.role} at {self.uri} is no chunked graph that agglomerates. A flat segmentation needs "
                "`type: synapseclr.datasets.PrecomputedVolumeDataset` and its own address."
            )
        return volume

    def _opened(self, volume: Any, channel: int) -> OpenPrecomputed:
        return OpenGraphene(self, volume, channel)

    def failure(self, error: BaseException, what: str, advice: str) -> VolumeError | UnreachableError:
        """The error to raise instead of one of a reader's; arguments as of the base class."""
        response = getattr(error, "response", None)
        status = getattr(response, "status_code", None)
        if status in (401, 403):
            said = "does not accept the token" if status == 401 else "does not let the owner of this token read it"
            return UnreachableError(f"The {self.role} {what}: the graph server of {self.uri} {said}. {_WHERE}")
        return super().failure(error, what, advice)


@dataclass(frozen=True)
class OpenGraphene(OpenPrecomputed):
    """One scale of a segmentation that a chunked graph agglomerates."""

    def identity(self) -> str:
        """Digest of the volume and of the moment of its root ids: those of another moment are other data."""
        assert isinstance(self.layer, GrapheneLayer)
        return hashlib.sha256(f"{super().identity()}{self.layer.timestamp}".encode()).hexdigest()


_WHERE = "Write it into conf/local/credentials.yml as `cave: {token: ...}` (docs/cave.md)."
