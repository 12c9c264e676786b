"""A query by a chunk from elsewhere finds what the same synapse finds."""

import numpy as np
import pandas as pd
import pytest
import zarr
from anndata import AnnData

from synapseclr.analysis.config import SimilarityConfig
from synapseclr.analysis.neuroglancer import NeuroglancerConfig
from synapseclr.analysis.search import FeatureIndex
from synapseclr.augmentation import AugmentationConfig
from synapseclr.datasets import QueryChunksDataset
from synapseclr.errors import ConfigurationError, SynapseCLRError, VolumeError
from synapseclr.models import EncoderWeights, ModelConfig
from synapseclr.pipelines.similarity.nodes import answer_queries, draw_neighbours, embed_query
from synapseclr.training import PretrainingConfig, adapted_weights
from synapseclr.training.extraction import embed_batches, pick_device
from synapseclr.volumes.imported_chunks import QueryChunks, read_query_chunks

N = 9
PRETRAINING = PretrainingConfig(
    augmentation=AugmentationConfig(axial_to_sagittal_spacing=2.5).resized(16, 16, cutout_size_max=5)
)


class Store:
    voxel_size_nm = (16.0, 16.0, 40.0)
    chunk_size_vx = (20, 20, 8)
    synapse_id = np.arange(N) + 2**60
    sha256 = "0" * 64

    def __init__(self):
        rng = np.random.default_rng(0)
        self.chunks = rng.integers(1, 256, (N, 2, *self.chunk_size_vx), dtype=np.uint8)
        self.chunks[:, 1] %= 4

    def __len__(self):
        return N

    def read(self, indices):
        return self.chunks[np.asarray(indices)]


@pytest.fixture(scope="module")
def store():
    return Store()


@pytest.fixture(scope="module")
def weights():
    config = ModelConfig(encoder="resnet18", width_factor=0.125, in_channels=1, projection_dims=(16, 8))
    return EncoderWeights(dict(config.build(0).state_dict()), config, {})


@pytest.fixture(scope="module")
def embeddings(store, weights):
    layers = embed_batches(weights.build(), [store.chunks], PRETRAINING.augmentation, pick_device("cpu"))
    obs = pd.DataFrame({"synapse_id": store.synapse_id}, index=store.synapse_id.astype(str))
    provenance = {
        "weights_sha256": weights.sha256,
        "augmentation": PRETRAINING.augmentation.for_extraction().model_dump_json(),
    }
    return AnnData(X=layers["encoder.fc"].numpy(), obs=obs, uns={"provenance": provenance})


@pytest.mark.parametrize("kind", ["npy", "zarr"])
def test_a_chunk_finds_itself_among_the_synapses(tmp_path, store, weights, embeddings, kind):
    path = str(tmp_path / f"mine.{kind}")
    if kind == "npy":
        np.save(path, store.chunks[4])
    else:
        zarr.create_array(path, data=store.chunks[4])
    query = QueryChunksDataset(query=path).load()
    config = SimilarityConfig(query=path, n_neighbours=3)
    features = embed_query(query, lambda: weights, embeddings, store, PRETRAINING, config)
    results, histograms = answer_queries(embeddings, FeatureIndex(embeddings.X), features, config, NeuroglancerConfig())
    assert results["query"].tolist() == [f"mine.{kind}"] * 3
    assert results["rank"].tolist() == [1, 2, 3]
    assert results["synapse_id"].iloc[0] == 2**60 + 4
    assert results["distance"].iloc[0] == pytest.approx(0, abs=1e-3)
    assert histograms["n_synapses"].sum() == N
    drawn = draw_neighbours(results, store, query)
    assert [axes.get_title(loc="left").split("\n")[0] for axes in drawn.axes][:2] == [f"mine.{kind}", str(2**60 + 4)]
    assert len(draw_neighbours(results, store).axes) == 3  # a report made later does not have the chunk


def test_a_chunk_is_embedded_with_the_batch_norms_of_the_embeddings(tmp_path, store, weights):
    adapted = adapted_weights(weights, store, PRETRAINING)
    obs = pd.DataFrame({"synapse_id": store.synapse_id}, index=store.synapse_id.astype(str))
    provenance = {"weights_sha256": weights.sha256, "batch_norm_views": PRETRAINING.augmentation.model_dump_json()}
    embeddings = AnnData(X=embed_with(adapted, store), obs=obs, uns={"provenance": provenance})
    np.save(path := str(tmp_path / "mine.npy"), store.chunks[4])
    query = QueryChunksDataset(query=path).load()
    config = SimilarityConfig(query=path)
    features = embed_query(query, lambda: weights, embeddings, store, PRETRAINING, config)
    assert np.allclose(features["mine.npy"], embeddings.X[4], atol=1e-4)
    assert not np.allclose(embeddings.X[4], embed_with(weights, store)[4], atol=1e-2)


def embed_with(weights, store):
    layers = embed_batches(weights.build(), [store.chunks], PRETRAINING.augmentation, pick_device("cpu"))
    return layers["encoder.fc"].numpy()


def test_several_chunks_are_queries_of_their_own_or_one(tmp_path, store, weights, embeddings):
    np.save(tmp_path / "some.npy", store.chunks[[1, 7]])
    query = read_query_chunks(str(tmp_path / "some.npy"))
    assert query.names == ("some.npy#1", "some.npy#2")
    index = FeatureIndex(embeddings.X)
    for combine, found in (("each", [1, 7]), ("union", [1])):
        config = SimilarityConfig(query=str(tmp_path / "some.npy"), combine=combine, n_neighbours=2)
        features = embed_query(query, lambda: weights, embeddings, store, PRETRAINING, config)
        results, _ = answer_queries(embeddings, index, features, config, NeuroglancerConfig())
        firsts = results.loc[results["rank"] == 1, "synapse_id"] - 2**60
        assert sorted(firsts)[: len(found)] == found
    assert set(results["synapse_id"] - 2**60) == {1, 7}


def test_other_weights_than_those_of_the_embeddings_are_refused(store, weights, embeddings):
    other = EncoderWeights(dict(weights.model.build(1).state_dict()), weights.model, {})
    query = QueryChunks(("x.npy",), store.chunks[:1])
    with pytest.raises(ConfigurationError, match="did not make synapse_embeddings"):
        embed_query(query, lambda: other, embeddings, store, PRETRAINING, SimilarityConfig())


def test_a_chunk_of_another_size_is_refused(store, weights, embeddings):
    query = QueryChunks(("x.npy",), np.ones((1, 2, 10, 20, 8), np.uint8))
    with pytest.raises(VolumeError, match="has 10 x 20 x 8 voxels, but the embedded chunks have 20 x 20 x 8"):
        embed_query(query, lambda: weights, embeddings, store, PRETRAINING, SimilarityConfig())


@pytest.mark.parametrize("query", [None, 12, "12", "12+34", [12, 34]])
def test_ids_are_no_chunks(query):
    assert len(QueryChunksDataset(query=query).load()) == 0


def test_what_is_no_chunk_is_refused_by_name(tmp_path):
    for name, array, message in (
        ("float", np.ones((2, 4, 4, 4)), r"holds float64 \(2, 4, 4, 4\), expected uint8"),
        ("flat", np.ones((4, 4, 4), np.uint8), r"holds uint8 \(4, 4, 4\), expected"),
        ("codes", np.full((2, 4, 4, 4), 9, np.uint8), r"has the mask codes \[9\], expected 0 background"),
        ("no_cleft", np.ones((2, 4, 4, 4), np.uint8), "with a cleft among them"),
        ("many", np.ones((25, 2, 1, 1, 1), np.uint8), "holds 25 chunks, expected at most 24"),
    ):
        np.save(tmp_path / f"{name}.npy", array)
        with pytest.raises(VolumeError, match=message):
            read_query_chunks(str(tmp_path / f"{name}.npy"))
    with pytest.raises(VolumeError, match="There is no query"):
        read_query_chunks(str(tmp_path / "none.npy"))
    with pytest.raises(VolumeError, match="neither synapse ids"):
        read_query_chunks("12 and 34")
    (tmp_path / "text.npy").write_text("hello")
    with pytest.raises(VolumeError, match="cannot be read as an array"):
        read_query_chunks(str(tmp_path / "text.npy"))


def test_a_path_in_a_parameters_file_says_where_it_belongs(embeddings):
    config = SimilarityConfig(query="/lab/chunk.npy")
    with pytest.raises(SynapseCLRError, match="Give the path on the command line"):
        answer_queries(embeddings, FeatureIndex(embeddings.X), {}, config, NeuroglancerConfig())
