"""EM and segmentation volumes, the chunks cut out of them, and the tables that describe them."""

from synapseclr.volumes.annotations import Annotations, check_annotation_table, transform_annotations
from synapseclr.volumes.config import PreprocessingConfig
from synapseclr.volumes.cutting.source import cut_chunks
from synapseclr.volumes.importing import ChunkSource, FeatureFiles, import_chunks, join_features
from synapseclr.volumes.layers.layer import VolumeLayer
from synapseclr.volumes.layers.precomputed import write_precomputed
from synapseclr.volumes.metadata import summarise, tabulate_chunks, tabulate_rejected
from synapseclr.volumes.store.chunk_store import MASK_CODES, ChunkStore, ChunkStream, write_chunk_store
from synapseclr.volumes.tables import check_synapse_table

__all__ = [
    "MASK_CODES",
    "Annotations",
    "ChunkSource",
    "ChunkStore",
    "ChunkStream",
    "FeatureFiles",
    "PreprocessingConfig",
    "VolumeLayer",
    "check_annotation_table",
    "check_synapse_table",
    "cut_chunks",
    "import_chunks",
    "join_features",
    "summarise",
    "tabulate_chunks",
    "tabulate_rejected",
    "transform_annotations",
    "write_chunk_store",
    "write_precomputed",
]
