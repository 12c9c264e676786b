"""Kedro datasets for volumes, chunks, embeddings, weights and published files."""

from synapseclr.datasets.anndata_zarr import AnnDataFolderDataset, AnnDataZarrDataset, OptionalProvenanceDataset
from synapseclr.datasets.cave_tables import CaveTableDataset
from synapseclr.datasets.chunks import ChunkSourceDataset, ChunkStoreDataset, OnDemandDataset, QueryChunksDataset
from synapseclr.datasets.files import (
    CSVDataset,
    FolderDataset,
    JSONDataset,
    LedgerDataset,
    MatplotlibDataset,
    OptionalCSVDataset,
    OptionalJSONDataset,
    OptionalMatplotlibDataset,
    ParquetDataset,
    PlotlyJSONDataset,
    TextDataset,
)
from synapseclr.datasets.synapse_tables import SynapseTableDataset
from synapseclr.datasets.volumes import (
    GrapheneVolumeDataset,
    Hdf5VolumeDataset,
    OmeZarrVolumeDataset,
    PrecomputedVolumeDataset,
)
from synapseclr.datasets.weights import (
    EncoderWeightsDataset,
    FeatureFilesDataset,
    PublishedCheckpointDataset,
)

__all__ = [
    "AnnDataFolderDataset",
    "AnnDataZarrDataset",
    "CSVDataset",
    "CaveTableDataset",
    "ChunkSourceDataset",
    "ChunkStoreDataset",
    "EncoderWeightsDataset",
    "FeatureFilesDataset",
    "FolderDataset",
    "GrapheneVolumeDataset",
    "Hdf5VolumeDataset",
    "JSONDataset",
    "LedgerDataset",
    "MatplotlibDataset",
    "OmeZarrVolumeDataset",
    "OnDemandDataset",
    "OptionalCSVDataset",
    "OptionalJSONDataset",
    "OptionalMatplotlibDataset",
    "OptionalProvenanceDataset",
    "ParquetDataset",
    "PlotlyJSONDataset",
    "PrecomputedVolumeDataset",
    "PublishedCheckpointDataset",
    "QueryChunksDataset",
    "SynapseTableDataset",
    "TextDataset",
]
