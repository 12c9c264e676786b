"""The services of a CAVE datastack: its versions and tables, rows of these, and the roots of supervoxels.

CAVE is the Connectome Annotation Versioning Engine (Dorkenwald et al. 2025, doi:10.1038/s41592-024-02426-z). Everything
goes through its client, the package ``caveclient``, which the extra ``cave`` installs.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.errors import ConfigurationError, SynapseCLRError, TableError, UnreachableError
from synapseclr.volumes.root_versions import as_utc

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

Box = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Lower and upper corner (x, y, z), both inclusive."""

FILTERS = ("in", "out", "equal", "greater", "less", "greater_equal", "less_equal", "regex")
"""Kinds of filters that caveclient knows (``filter_in_dict`` and so on), by the names that a catalog entry uses."""

_LIMITED = "Limited query"  # of the warning that the server sends with a result that it has cut off
_NAMED = 12
TIMEOUT_S = (10.0, 300.0)
"""Seconds to wait for a connection, and for an answer; caveclient waits forever, and tries three times more."""

logger = logging.getLogger(__name__)


class CaveService:
    """One datastack of a CAVE server; nothing is asked before it is needed.

    Args:
        datastack: Its name, such as ``minnie65_public``.
        server_address: Of the global server; None: the one that caveclient remembers for this datastack, or else the
            public one.
        token: Of the user; None: what caveclient finds in ``~/.cloudvolume/secrets``.
    """

    def __init__(self, datastack: str, server_address: str | None = None, token: str | None = None) -> None:
        self.datastack = datastack
        self._address = server_address if server_address is None or "://" in server_address else _https(server_address)
        self._token = token
        self._is_limited = False

    @cached_property
    def _client(self) -> Any:
        try:
            from caveclient import CAVEclient
        except ImportError as error:
            raise ConfigurationError(
                "Tables of a CAVE server are read by the package caveclient, which is not installed. Install it: "
                "pip install 'synapseclr[cave]'."
            ) from error
        with self._in_sentences(lambda: self._unknown_datastack()):
            client = CAVEclient(
                self.datastack, server_address=self._address, auth_token=self._token, write_server_cache=False
            )
            client.materialize.session.hooks["response"].append(self._note_limit)
            _end_waiting(client.materialize.session)
            return client

    @cached_property
    def _graph(self) -> Any:
        graph = self._client.chunkedgraph
        _end_waiting(graph.session)
        return graph

    @property
    def server(self) -> str:
        """Address of the global server, for messages."""
        return str(self.__dict__["_client"].server_address) if "_client" in self.__dict__ else self._address or "CAVE"

    @cached_property
    def _versions(self) -> dict[int, datetime]:
        """Versions that are not expired, with their moments."""
        client = self._client
        with self._in_sentences(lambda: f"{self.server} knows no versions of the datastack {self.datastack}."):
            found = client.materialize.get_versions_metadata(expired=False)
        return {int(version["version"]): as_utc(version["time_stamp"]) for version in found}

    def newest_version(self, before: datetime | None = None) -> int:
        """Number of the newest version that the server still has.

        Args:
            before: Moment that it must not be later than; None: now.

        Raises:
            TableError: If there is none.
        """
        fitting = [version for version, moment in self._versions.items() if before is None or moment <= before]
        if not fitting:
            until = "" if before is None else f" of {before.isoformat()} or earlier"
            raise TableError(f"The datastack {self.datastack} has no version{until}; {self._listed_versions()}.")
        return max(fitting, key=lambda version: self._versions[version])

    def moment_of(self, version: int) -> datetime:
        """Moment of a version, in UTC.

        Raises:
            TableError: If it is expired or never was; lists those that there are.
        """
        if version in self._versions:
            return self._versions[version]
        client = self._client
        with self._in_sentences(lambda: f"{self.server} knows no versions of the datastack {self.datastack}."):
            is_expired = version in client.materialize.get_versions(expired=True)
        said = "has expired" if is_expired else "does not exist"
        raise TableError(
            f"Version {version} of the datastack {self.datastack} {said}; {self._listed_versions()}. Set "
            "materialization_version to one of these, and read the segmentation at the same one."
        )

    def _listed_versions(self) -> str:
        """The versions that can be read, in words."""
        there = [f"{version} ({moment:%Y-%m-%d})" for version, moment in sorted(self._versions.items(), reverse=True)]
        return f"available are {', '.join(there)}" if there else "none is available"

    def metadata(self, table: str, version: int) -> dict[str, Any]:
        """Describe a table: ``voxel_resolution`` (nm), ``reference_table``, ``schema_type`` and more.

        Raises:
            TableError: If the version has no such table; suggests one.
        """
        client = self._client
        with self._in_sentences(lambda: self._unknown_table(table, version)):
            return dict(client.materialize.get_table_metadata(table, version=version, log_warning=False))

    def resolution_nm(self, table: str, version: int) -> tuple[float, float, float]:
        """Size in nm of one unit of a table's positions.

        Raises:
            TableError: If the table's metadata do not tell.
        """
        given = self.metadata(table, version)["voxel_resolution"]
        if given is None or len(given) != 3 or any(value is None or not float(value) > 0 for value in given):
            raise TableError(
                f"The table {table} of the datastack {self.datastack} does not say in which unit its positions are. "
                "Set unit_nm in its catalog entry."
            )
        x, y, z = map(float, given)
        return x, y, z

    def n_rows(self, table: str, version: int) -> int:
        """Count the rows of a table, valid or not."""
        client = self._client
        with self._in_sentences(lambda: self._unknown_table(table, version)):
            return int(client.materialize.get_annotation_count(table, version=version))

    def rows(
        self,
        table: str,
        version: int,
        row_limit: int,
        *,
        filters: Mapping[str, Mapping[str, Any]] | None = None,
        box: Mapping[str, Box] | None = None,
        columns: list[str] | None = None,
    ) -> tuple[pd.DataFrame, bool]:
        """Rows of a table in the server's order, which may be any.

        Args:
            table: Its name.
            version: Materialization version.
            row_limit: Rows that are asked for at most.
            filters: By kind (:data:`FILTERS`) and column.
            box: Box of a column of positions, in the table's units.
            columns: Those that are wanted; None: all.

        Returns:
            The rows, positions in three columns each in the table's units; and whether there may be more.
        """
        client, resolution = self._client, None
        described = self.metadata(table, version)["voxel_resolution"]
        if described and None not in described:
            resolution = list(described)
        self._is_limited = False
        named = {f"filter_{kind}_dict": dict(chosen) for kind, chosen in (filters or {}).items()}
        with self._in_sentences(lambda: self._unknown_table(table, version)):
            found = client.materialize.query_table(
                table,
                **named,
                filter_spatial_dict=None if box is None else {name: list(corners) for name, corners in box.items()},
                select_columns=columns,
                limit=row_limit,
                materialization_version=version,
                split_positions=True,
                desired_resolution=resolution,
                merge_reference=False,
                metadata=False,
                log_warning=False,
            )
        return found, self._is_limited or len(found) >= row_limit

    def roots(self, supervoxel_ids: NDArray[np.uint64], at: datetime) -> NDArray[np.uint64]:
        """Root ids (n,) of supervoxels (n,) at a moment; 0 where the graph has none."""
        with self._in_sentences(lambda: f"The datastack {self.datastack} has no graph that tells roots."):
            return np.asarray(self._graph.get_roots(supervoxel_ids, timestamp=at), np.uint64)

    def extent_nm(self) -> Box:
        """Extent of the datastack's segmentation in nm.

        Raises:
            TableError: If its segmentation is no graph, whose server would tell.
        """
        with self._in_sentences(
            lambda: f"The extent of the datastack {self.datastack} is not known. Set bounding_box_nm."
        ):
            scale = self._graph.segmentation_info["scales"][0]
        lower = np.asarray(scale.get("voxel_offset", (0, 0, 0)), np.float64)
        lower_nm, upper_nm = (
            vx * np.asarray(scale["resolution"], np.float64) for vx in (lower, lower + np.asarray(scale["size"]))
        )
        return tuple(lower_nm.tolist()), tuple(upper_nm.tolist())

    @property
    def nucleus_table(self) -> str | None:
        """Table of nuclei that the datastack declares, if it does."""
        client = self._client
        with self._in_sentences(self._unknown_datastack):
            name = client.info.get_datastack_info().get("soma_table")
        return str(name) if name else None

    def _note_limit(self, response: Any, *_: Any, **__: Any) -> None:
        self._is_limited = self._is_limited or _LIMITED in (response.headers.get("Warning") or "")

    @contextmanager
    def _in_sentences(self, missing: Any) -> Iterator[None]:
        """Turn what the client and the network raise into a sentence.

        Args:
            missing: Makes the sentence for what the server does not have, and may ask the server for it.

        Raises:
            TableError: If the server does not have what was asked for.
            UnreachableError: If it does not answer, or does not accept the token.
        """
        import requests

        try:
            yield
        except SynapseCLRError:
            raise
        except requests.exceptions.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status in (401, 403):
                raise UnreachableError(self._refused(error.response)) from error
            if status in (404, 410):
                raise TableError(missing()) from error
            if 400 <= status < 500:
                raise TableError(
                    f"{self.server} does not take the query of the datastack {self.datastack} (status {status}: "
                    f"{_said(error.response)}). Check filters, columns and bounding_box_nm of the catalog entry."
                ) from error
            raise UnreachableError(self._away(f"status {status}")) from error
        except (requests.exceptions.RequestException, OSError) as error:
            # JSONDecodeError of requests: a page to log in instead of an answer
            if isinstance(error, requests.exceptions.JSONDecodeError):
                raise UnreachableError(self._no_token()) from error
            raise UnreachableError(self._away(type(error).__name__)) from error
        except Exception as error:
            if type(error).__name__ == "AuthException":  # the server led to its page to log in
                raise UnreachableError(self._no_token()) from error
            if type(error).__name__ == "ServerIncompatibilityError":
                raise UnreachableError(
                    f"{self.server} is too old for the installed caveclient: {' '.join(str(error).split())}"
                ) from error
            raise

    def _away(self, reason: str) -> str:
        return (
            f"The CAVE server {self.server} of the datastack {self.datastack} does not answer ({reason}). Check "
            "server_address and the connection, and run the same command again: it continues."
        )

    def _no_token(self) -> str:
        return f"{self.server} asks for a token to read the datastack {self.datastack}, and there is none. {_WHERE}"

    def _refused(self, response: Any) -> str:
        if response.status_code == 401:
            place = "of credentials.yml" if self._token else "in ~/.cloudvolume/secrets"
            return f"{self.server} does not accept the token {place}. Get a new one. {_WHERE}"
        return (
            f"{self.server} does not let the owner of this token read the datastack {self.datastack} "
            f"({_said(response)}). Ask its owners, or accept its terms of use in a browser first."
        )

    def _unknown_datastack(self) -> str:
        from caveclient import CAVEclient

        client = CAVEclient(server_address=self._address, auth_token=self._token)
        known = sorted(map(str, client.info.get_datastacks()))
        return f"{client.server_address} has no datastack {self.datastack}.{_closest(self.datastack, known)}"

    def _unknown_table(self, table: str, version: int) -> str:
        self.moment_of(version)  # an expired version has no tables
        known = sorted(map(str, self._client.materialize.get_tables(version=version)))
        return f"Version {version} of the datastack {self.datastack} has no table {table}.{_closest(table, known)}"


_WHERE = (
    "Write it into conf/local/credentials.yml as `cave: {token: ...}`, or save it with caveclient, which keeps it in "
    "~/.cloudvolume/secrets/cave-secret.json (docs/cave.md)."
)


def _end_waiting(session: Any) -> None:
    """Give the requests of a session an end where a server accepts them and never answers."""
    session.request = partial(session.request, timeout=TIMEOUT_S)


def _https(address: str) -> str:
    return f"https://{address}"


def _closest(name: str, known: list[str]) -> str:
    """A suggestion and some names, with a space in front."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    return f"{hint} There are {', '.join(known[:_NAMED])}{more}." if known else f"{hint} There is none."


def _said(response: Any) -> str:
    """Reason that a server gives, without its page."""
    try:
        said = response.json()
        text = said.get("message") or said.get("error") if isinstance(said, dict) else None
    except ValueError:
        text = None
    return " ".join(str(text or response.reason).split())[:200]
