"""Kedro datasets for volumes, chunks, embeddings, weights and published files."""

from synapseclr.datasets.anndata_folder import AnnDataFolderDataset
from synapseclr.datasets.anndata_zarr import AnnDataZarrDataset
from synapseclr.datasets.chunk_source import ChunkSourceDataset
from synapseclr.datasets.chunk_store import ChunkStoreDataset
from synapseclr.datasets.encoder_weights import EncoderWeightsDataset
from synapseclr.datasets.feature_files import FeatureFilesDataset
from synapseclr.datasets.folder import FolderDataset
from synapseclr.datasets.ledger import LedgerDataset
from synapseclr.datasets.ome_zarr_volume import OmeZarrVolumeDataset
from synapseclr.datasets.precomputed_volume import PrecomputedVolumeDataset
from synapseclr.datasets.published_checkpoint import NoTrainingDataset, PublishedCheckpointDataset
from synapseclr.datasets.query import OnDemandDataset, QueryChunksDataset
from synapseclr.datasets.whole_files import (
    CSVDataset,
    JSONDataset,
    MatplotlibDataset,
    OptionalCSVDataset,
    OptionalJSONDataset,
    ParquetDataset,
    PlotlyJSONDataset,
    TextDataset,
)

__all__ = [
    "AnnDataFolderDataset",
    "AnnDataZarrDataset",
    "CSVDataset",
    "ChunkSourceDataset",
    "ChunkStoreDataset",
    "EncoderWeightsDataset",
    "FeatureFilesDataset",
    "FolderDataset",
    "JSONDataset",
    "LedgerDataset",
    "MatplotlibDataset",
    "NoTrainingDataset",
    "OmeZarrVolumeDataset",
    "OnDemandDataset",
    "OptionalCSVDataset",
    "OptionalJSONDataset",
    "ParquetDataset",
    "PlotlyJSONDataset",
    "PrecomputedVolumeDataset",
    "PublishedCheckpointDataset",
    "QueryChunksDataset",
    "TextDataset",
]
