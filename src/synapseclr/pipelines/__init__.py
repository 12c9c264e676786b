"""Kedro pipelines, which translate between the catalog and the libraries, and heavy types in the hints of their nodes.

Kedro resolves the hints when the project starts, to validate parameters. These types are too heavy to import then:
outside of a type checker they are ``Any``.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure

    from synapseclr.plotting.report import Drawing
    from synapseclr.volumes import ChunkStore
else:
    AnnData = ChunkStore = Drawing = Figure = PlotlyFigure = Any

__all__ = ["AnnData", "ChunkStore", "Drawing", "Figure", "PlotlyFigure"]
