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
from synapseclr.datasets.optional_table import OptionalCSVDataset
from synapseclr.datasets.precomputed_volume import PrecomputedVolumeDataset
from synapseclr.datasets.published_checkpoint import NoTrainingDataset, PublishedCheckpointDataset
from synapseclr.datasets.query import OnDemandDataset, QueryChunksDataset

__all__ = [
    "AnnDataFolderDataset",
    "AnnDataZarrDataset",
    "ChunkSourceDataset",
    "ChunkStoreDataset",
    "EncoderWeightsDataset",
    "FeatureFilesDataset",
    "FolderDataset",
    "LedgerDataset",
    "NoTrainingDataset",
    "OmeZarrVolumeDataset",
    "OnDemandDataset",
    "OptionalCSVDataset",
    "PrecomputedVolumeDataset",
    "PublishedCheckpointDataset",
    "QueryChunksDataset",
]
