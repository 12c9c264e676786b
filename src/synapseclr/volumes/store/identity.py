"""Telling a chunk store that is being read from another one that has taken its place.

A handle keeps what it has read of a store: ids, places, the indices of shards. If the store is written anew meanwhile,
in another order, positions mean other synapses. So every read looks at the store's description afterwards.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from synapseclr.errors import VolumeError
from synapseclr.storage.declared_sizes import parse_json

if TYPE_CHECKING:
    from synapseclr.volumes.objects import ObjectFolder

_DESCRIPTION = "zarr.json"


class StoreIdentity:
    """The store that a handle was opened on. Local stores are asked by one ``stat``, others by one small object.

    Args:
        folder: The store.
        sha256: Digest of its ids and chunks when it was opened.

    Attributes:
        n_rewritten: How often the same chunks were found written again; their shards may lie otherwise then.
    """

    def __init__(self, folder: ObjectFolder, sha256: str) -> None:
        self._folder = folder
        self._path = os.path.join(folder.url, _DESCRIPTION)
        self._sha256 = sha256
        self._seen = self._version()
        self._compare()
        self.n_rewritten = 0

    def look(self) -> None:
        """Look if the store is still the one that was opened.

        Raises:
            VolumeError: If other chunks lie there now, or none.
        """
        version = self._version()
        if version != self._seen:
            self._compare()
            self._seen = version
            self.n_rewritten += 1

    def _version(self) -> tuple[int, ...] | str:
        if self._folder.is_remote:
            try:
                return hashlib.sha256(self._folder.read(_DESCRIPTION)).hexdigest()
            except FileNotFoundError:
                return ""
        try:
            state = os.stat(self._path)
        except OSError:
            return ()
        return state.st_mtime_ns, state.st_ino, state.st_size

    def _compare(self) -> None:
        try:
            attributes = parse_json(self._folder.read(_DESCRIPTION)).get("attributes", {})
        except (FileNotFoundError, ValueError):
            attributes = {}
        if attributes.get("sha256") != self._sha256 or not attributes.get("complete"):
            raise VolumeError(replaced(self._folder.url))


def replaced(url: str) -> str:
    """The message when the chunks are no longer those that were opened."""
    return (
        f"The chunk store at {url} was replaced while it was being read: positions mean other synapses now. Start "
        "again what was reading it, once preprocessing has ended."
    )
