"""Versions of root ids: proofreading gives neurites new ones, so table and segmentation must be of one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from synapseclr.errors import ConfigurationError

PROVENANCE = "synapse_source"
"""Attribute (``DataFrame.attrs``) of a synapse table that tells where its rows and root ids come from."""

_SAME_SECONDS = 1.0  # CloudVolume asks the graph for whole seconds


def as_utc(moment: str | float | datetime) -> datetime:
    """Read a moment in time.

    Args:
        moment: ISO 8601 text (UTC where it names no zone), seconds since 1970, or a datetime.

    Raises:
        ConfigurationError: If it is none of these.
    """
    try:
        if isinstance(moment, str):
            moment = datetime.fromisoformat(moment.strip())
        if isinstance(moment, int | float):
            return datetime.fromtimestamp(moment, UTC)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigurationError(
            f"'{moment}' is no moment in time. Write it as 2024-01-22T08:10:01 (UTC) or as seconds since 1970."
        ) from error


@dataclass(frozen=True)
class RootVersion:
    """Version of the root ids of a table or a segmentation, as far as it is known.

    Attributes:
        materialization_version: CAVE's number of it.
        timestamp: Moment of the graph at which supervoxels were looked up, in UTC.
    """

    materialization_version: int | None = None
    timestamp: datetime | None = None

    @classmethod
    def of_table(cls, attributes: Mapping[Any, Any]) -> RootVersion:
        """Read the version of a table's root ids off its attributes; empty if they do not tell."""
        source = attributes.get(PROVENANCE) or {}
        roots_at = source.get("root_ids_at")
        # root ids looked up at a moment of their own are those of no version
        version = None if source.get("is_remapped") else source.get("materialization_version")
        return cls(version, None if roots_at is None else as_utc(roots_at))

    @property
    def is_known(self) -> bool:
        """Tell whether anything is known."""
        return self.materialization_version is not None or self.timestamp is not None

    def __str__(self) -> str:
        """Name version and moment: "version 943 (2024-01-22T08:10:01+00:00)"."""
        version = "" if self.materialization_version is None else f"version {self.materialization_version}"
        moment = "" if self.timestamp is None else self.timestamp.isoformat()
        return f"{version} ({moment})" if version and moment else version or moment or "unknown version"

    def disagrees_with(self, other: RootVersion) -> bool:
        """Tell whether both are known and differ."""
        if self.timestamp is not None and other.timestamp is not None:
            return abs((self.timestamp - other.timestamp).total_seconds()) > _SAME_SECONDS
        versions = (self.materialization_version, other.materialization_version)
        return None not in versions and versions[0] != versions[1]


def disagreement(table: RootVersion, segmentation: RootVersion, address: str) -> str | None:
    """Say that table and segmentation are of different versions; None if they are not, or if it is not known.

    Args:
        table: Version of the synapse table's root ids.
        segmentation: That of the segmentation.
        address: Of the segmentation.
    """
    if not table.disagrees_with(segmentation):
        return None
    remedy = (
        f"`timestamp: {segmentation.timestamp.isoformat()}` in the entry of the synapse table, which looks its root "
        "ids up at that moment"
        if segmentation.timestamp is not None
        else f"`materialization_version: {segmentation.materialization_version}` in the entry of the synapse table"
    )
    return (
        f"The root ids of the synapse table are those of {table}, the segmentation volume at {address} has those of "
        f"{segmentation}: neurites that were proofread in between have other ids. Read both at one version, or set "
        f"{remedy} (docs/cave.md)."
    )
