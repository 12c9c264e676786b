"""Kedro datasets for volumes, chunks, embeddings and weights."""

from synapseclr.datasets.anndata_zarr import AnnDataZarrDataset
from synapseclr.datasets.chunk_store import ChunkStoreDataset
from synapseclr.datasets.encoder_weights import EncoderWeightsDataset
from synapseclr.datasets.folder import FolderDataset
from synapseclr.datasets.precomputed_volume import PrecomputedVolumeDataset

__all__ = [
    "AnnDataZarrDataset",
    "ChunkStoreDataset",
    "EncoderWeightsDataset",
    "FolderDataset",
    "PrecomputedVolumeDataset",
]
