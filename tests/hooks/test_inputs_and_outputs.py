"""Synapses accepted as defective do not reach the analyses."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node

from synapseclr.errors import TableError
from synapseclr.hooks.inputs_and_outputs import DefectExclusion


@pytest.fixture
def embeddings():
    return AnnData(X=np.zeros((4, 2), np.float32), obs=pd.DataFrame({"synapse_id": [5, 6, 7, 8]}, list("abcd")))


def _seen(embeddings, outliers, tag="manifold", listed=None):
    node = Node(lambda data: data, "synapse_embeddings", "out", name="node", tags=tag)
    catalog = DataCatalog({"params:outliers": MemoryDataset(outliers)} if outliers is not None else {})
    if listed is not None:
        catalog["accepted_defects"] = MemoryDataset(listed)
    inputs = {"synapse_embeddings": embeddings}
    inputs |= DefectExclusion().before_node_run(node, catalog, inputs) or {}
    return inputs["synapse_embeddings"].obs["synapse_id"].tolist()


@pytest.mark.parametrize("tag", ["manifold", "imputation", "consensus", "similarity", "features"])
def test_analyses_do_not_see_examples_and_accepted_synapses(embeddings, tag):
    assert _seen(embeddings, {"examples": "6", "accept": [8]}, tag) == [5, 7]


def test_a_table_of_accepted_defects_needs_no_parameter(embeddings):
    listed = pd.DataFrame({"synapse_id": [7]})
    assert _seen(embeddings, {}, listed=listed) == [5, 6, 8]
    assert _seen(embeddings, {"accept": [8]}, listed=listed) == [5, 6]
    assert _seen(embeddings, {"exclude": False}, listed=listed) == [5, 6, 7, 8]
    assert _seen(embeddings, {}, listed=pd.DataFrame()) == [5, 6, 7, 8]


@pytest.mark.parametrize("tag", ["outliers", "reporting"])
def test_other_pipelines_see_all(embeddings, tag):
    assert _seen(embeddings, {"accept": [8]}, tag) == [5, 6, 7, 8]


def test_nothing_is_left_out_unless_asked(embeddings):
    for outliers in (None, {}, {"accept": [8], "exclude": False}):
        assert _seen(embeddings, outliers) == [5, 6, 7, 8]


def test_unknown_ids_are_refused(embeddings):
    with pytest.raises(TableError, match=r"outliers.accept names synapses without embedding: \[9\]"):
        _seen(embeddings, {"accept": [9]})
