"""More synapses like this one: neighbours in feature space, queries, links into Neuroglancer."""

from synapseclr.analysis.search.neighbours import (
    FeatureIndex,
    Neighbours,
    measure_recall,
    nearest_neighbours,
    neighbour_table,
)
from synapseclr.analysis.search.neuroglancer import NeuroglancerConfig, neuroglancer_url, synapse_links
from synapseclr.analysis.search.similarity import (
    Query,
    answer_query,
    distance_histograms,
    eligible_rows,
    make_queries,
    representative_queries,
    result_table,
)

__all__ = [
    "FeatureIndex",
    "Neighbours",
    "NeuroglancerConfig",
    "Query",
    "answer_query",
    "distance_histograms",
    "eligible_rows",
    "make_queries",
    "measure_recall",
    "nearest_neighbours",
    "neighbour_table",
    "neuroglancer_url",
    "representative_queries",
    "result_table",
    "synapse_links",
]
