"""What nodes of the analyses refuse, and the configuration of their pipelines."""

import re
from inspect import signature
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pandas as pd
import pytest
import yaml
from analyses_in_memory import CONFIGS, PIPELINES, MemoryStore, simulated_embeddings
from pydantic import ValidationError

from synapseclr.analysis import search
from synapseclr.analysis.config import ImputationConfig, SimilarityConfig
from synapseclr.analysis.handcrafted import MASK_STATISTIC_NAMES, STATISTIC_NAMES
from synapseclr.analysis.neuroglancer import NeuroglancerConfig
from synapseclr.errors import TableError
from synapseclr.pipeline_registry import register_pipelines
from synapseclr.pipelines.imputation.nodes import score_traits
from synapseclr.pipelines.similarity.nodes import (
    answer_queries,
    compare_indices,
    find_neighbours,
    index_features,
)
from synapseclr.plotting.sections import read_slabs
from synapseclr.volumes import TRAITS, Traits

DATA_ROOT = "${runtime_params:data_root,${globals:data_root}}"
CONF = Path(__file__).parents[2] / "conf" / "base"


def test_embeddings_of_other_synapses_are_refused():
    trained, other = simulated_embeddings(1.0, 1), simulated_embeddings(1.0, 2)[:50]
    names = list(dict.fromkeys([*STATISTIC_NAMES, *MASK_STATISTIC_NAMES]))
    statistics = pd.DataFrame(0.0, trained.obs.index, names)
    statistics["synapse_id"] = trained.obs["synapse_id"]
    with pytest.raises(TableError, match=r"'random.synapse_embeddings' lacks 40 synapses"):
        score_traits(trained, other, trained, {}, statistics, statistics, ImputationConfig(), TRAITS)


def test_unknown_queries_are_refused():
    config = SimilarityConfig(n_neighbours=2, query=17)
    embeddings = simulated_embeddings(1.0, 1)
    index = index_features(embeddings, "unused", config)
    for node in (find_neighbours, lambda *inputs: answer_queries(*inputs, NeuroglancerConfig())):
        with pytest.raises(TableError, match=r"similarity.query names synapses without embedding: \[17\]"):
            node(embeddings, index, {}, config)


def test_the_index_of_all_synapses_is_built_once(monkeypatch):
    """For neighbours, queries and recall together; recall builds the other kind once more to compare."""
    built = []
    original = search.build_index
    monkeypatch.setattr(search, "build_index", lambda nf, kind: built.append(kind) or original(nf, kind))
    config = SimilarityConfig(n_neighbours=2, n_queries=2, index="ivf")
    embeddings = simulated_embeddings(1.0, 1)
    index = index_features(embeddings, "unused", config)
    find_neighbours(embeddings, index, {}, config)
    answer_queries(embeddings, index, {}, config, NeuroglancerConfig())
    recall, _ = compare_indices(index, config)
    assert built == ["ivf", "hnsw"]
    assert recall.loc[recall["is_used"], "index"].tolist() == ["ivf"]


def test_a_synapse_without_chunk_is_refused():
    with pytest.raises(TableError, match=r"1 synapses have no chunk in the store, such as \[3\]"):
        read_slabs(MemoryStore(np.array([1, 2])), np.array([1, 3]))


@pytest.mark.parametrize("name", CONFIGS)
def test_configured_parameters_are_valid(name):
    unresolved = (CONF / name / "parameters.yml").read_text()
    # As Kedro resolves it in a run without --params.
    parameters = yaml.safe_load(re.sub(r"\$\{runtime_params:\w+,(\w+)\}", r"\1", unresolved))
    assert list(parameters) == [name]
    assert set(parameters[name]) == set(CONFIGS[name].model_fields)
    CONFIGS[name].model_validate(parameters[name])
    with pytest.raises(ValidationError, match="misspelt"):
        CONFIGS[name].model_validate({**parameters[name], "misspelt": 1})


@pytest.mark.parametrize("name", PIPELINES)
def test_node_hints_resolve_so_that_kedro_validates_parameters(name):
    for node in PIPELINES[name].create_pipeline().nodes:
        hints = get_type_hints(node.func)
        if f"params:{name}" in node.inputs:
            assert CONFIGS[name] in hints.values()
        if "traits" in signature(node.func).parameters:
            position = list(signature(node.func).parameters).index("traits")
            assert (node.inputs[position], hints["traits"]) == ("params:traits", Traits)


@pytest.mark.parametrize("name", PIPELINES)
def test_every_output_is_in_the_catalog_below_the_data_root(name):
    entries = yaml.safe_load((CONF / name / "catalog.yml").read_text())
    assert entries.pop("_results") == "${runtime_params:results_root,${runtime_params:data_root,${globals:data_root}}}"
    assert entries.pop("_data", DATA_ROOT) == DATA_ROOT
    outputs = PIPELINES[name].create_pipeline().all_outputs()
    assert outputs <= set(entries)
    stored = [entries[output]["filepath"] for output in outputs if entries[output]["type"] != "MemoryDataset"]
    assert all(re.match(r"\$\{_results\}/0\d_\w+/", filepath) for filepath in stored)
    layers = {entry["metadata"]["kedro-viz"]["layer"] for entry in entries.values()}
    assert layers <= {"primary", "feature", "models", "model_output", "reporting"}


def test_simulated_embeddings_have_all_that_analyses_without_images_read():
    pipelines = register_pipelines()
    simulated, analyses = pipelines["simulated_embeddings"], pipelines["analysis_without_images"]
    read = {name for name in (simulated + analyses).inputs() if not name.startswith("params:")}
    entries = {}
    for path in CONF.glob("*/catalog.yml"):
        entries |= yaml.safe_load(path.read_text())
    places = {"embedding_shards", "feature_index_folder", "other_representations", "pipeline_seconds"}
    may_be_absent = {name for name in read if "Optional" in entries.get(name, {}).get("type", "")}
    for_a_query_by_chunks = {"query_chunks", "query_encoder", "synapse_chunks"}
    assert {name.rpartition(".")[2] for name in read} - may_be_absent - places == {"parameters", *for_a_query_by_chunks}
    left_out = {node.name for node in pipelines["analysis"].nodes} - {node.name for node in analyses.nodes}
    assert {"manifold.draw_axis_strip", "features.draw_occlusion", "imputation.measure_mask_statistics"} < left_out
    assert not [name for name in left_out if "describe" in name or "impute" in name or "find" in name]
