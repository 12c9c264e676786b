"""EM and segmentation volumes, the chunks cut out of them, and the tables that describe them."""

from synapseclr.volumes.annotations import Annotations, transform_annotations
from synapseclr.volumes.chunk_store import MASK_CODES, ChunkStore, ChunkStream, write_chunk_store
from synapseclr.volumes.config import PreprocessingConfig
from synapseclr.volumes.cutting import cut_chunks
from synapseclr.volumes.layer import VolumeLayer, write_precomputed
from synapseclr.volumes.metadata import summarise, tabulate_chunks
from synapseclr.volumes.tables import check_synapse_table

__all__ = [
    "MASK_CODES",
    "Annotations",
    "ChunkStore",
    "ChunkStream",
    "PreprocessingConfig",
    "VolumeLayer",
    "check_synapse_table",
    "cut_chunks",
    "summarise",
    "tabulate_chunks",
    "transform_annotations",
    "write_chunk_store",
    "write_precomputed",
]
