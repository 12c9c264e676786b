"""Chunks and features that others have made: read as they are, checked, and given our form."""

from synapseclr.volumes.importing.chunks import import_chunks
from synapseclr.volumes.importing.features import FeatureFiles, join_features
from synapseclr.volumes.importing.source import ChunkSource

__all__ = ["ChunkSource", "FeatureFiles", "import_chunks", "join_features"]
