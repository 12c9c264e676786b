"""Where preprocessing takes its chunks from, as a catalog entry."""

from __future__ import annotations

from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

from synapseclr.volumes.importing.source import ChunkSource, SourceKind


class ChunkSourceDataset(AbstractDataset[None, ChunkSource]):
    """Loads a :class:`ChunkSource`, a choice that reads nothing yet.

    Example catalog entries::

        chunk_source:
          type: synapseclr.datasets.ChunkSourceDataset
          kind: volumes                     # em_volume, segmentation_volume and cleft_volume

        chunk_source:
          type: synapseclr.datasets.ChunkSourceDataset
          kind: processed_chunks            # <id>__2_<x>_<y>_<z>.npy, meta.csv; raw_chunks: <id>.npy, <id>_mask.npy
          filepath: gs://bucket/processed
          mask_codes: {1: synaptic_cleft}   # default: the codes 0 to 3
          credentials: gcs

    Args:
        kind: ``volumes``, ``processed_chunks`` or ``raw_chunks``.
        filepath: Local path or fsspec URL of the folder of chunks.
        mask_filepath: Folder of the masks of ``raw_chunks``, if it is another one.
        mask_codes: What the codes in the files' masks mean.
        credentials: Passed to fsspec.
    """

    def __init__(
        self,
        *,
        kind: SourceKind,
        filepath: str = "",
        mask_filepath: str | None = None,
        mask_codes: dict[int, str] | None = None,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._source = ChunkSource(kind, filepath, mask_filepath, mask_codes, credentials or {})
        self.metadata = metadata

    def load(self) -> ChunkSource:
        """Return the choice."""
        return self._source

    def save(self, data: None) -> NoReturn:
        """Not possible: it is a choice that the configuration makes."""
        raise DatasetError("A chunk source is read, never written.")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"kind": self._source.kind, "filepath": self._source.url}
