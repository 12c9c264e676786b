"""EM and segmentation volumes, the chunks cut out of them, and the tables that describe them."""

from synapseclr.volumes.annotations import (
    ANNOTATION_SCALES,
    ANNOTATIONS,
    Annotations,
    check_annotation_table,
    transform_annotations,
)
from synapseclr.volumes.chunk_metadata import (
    REJECTED_SYNAPSES,
    SYNAPSE_METADATA,
    summarise,
    tabulate_chunks,
    tabulate_rejected,
)
from synapseclr.volumes.config import PreprocessingConfig
from synapseclr.volumes.cutting import cut_chunks
from synapseclr.volumes.imported_chunks import PUBLISHED_METADATA, ChunkSource, import_chunks
from synapseclr.volumes.imported_features import FeatureFiles, join_features
from synapseclr.volumes.layers.layer import VolumeLayer
from synapseclr.volumes.layers.ome_zarr import OmeZarrLayer
from synapseclr.volumes.layers.precomputed import PrecomputedLayer, write_precomputed
from synapseclr.volumes.store.chunk_store import ChunkStore
from synapseclr.volumes.store.shards import MASK_CODES, ChunkBatch, ChunkStream
from synapseclr.volumes.store.writing import write_chunk_store
from synapseclr.volumes.synapse_table import SYNAPSE_TABLE, check_synapse_table

# Also here, but documented as a part of synapseclr.analysis.traits.
from synapseclr.volumes.traits import PUBLISHED_TRAITS as PUBLISHED_TRAITS
from synapseclr.volumes.traits import TRAITS as TRAITS
from synapseclr.volumes.traits import Trait as Trait
from synapseclr.volumes.traits import Traits as Traits

__all__ = [
    "ANNOTATIONS",
    "ANNOTATION_SCALES",
    "MASK_CODES",
    "PUBLISHED_METADATA",
    "REJECTED_SYNAPSES",
    "SYNAPSE_METADATA",
    "SYNAPSE_TABLE",
    "Annotations",
    "ChunkBatch",
    "ChunkSource",
    "ChunkStore",
    "ChunkStream",
    "FeatureFiles",
    "OmeZarrLayer",
    "PrecomputedLayer",
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
