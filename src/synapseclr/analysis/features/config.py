"""Parameters of the analysis of features."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from synapseclr.analysis.config import Layer


class FeaturesConfig(BaseModel):
    """Correlations, principal components, and traits by cell types."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clustered_layer: Layer = Field(default="encoder.fc", description="Recorded layer whose features are clustered.")
    n_feature_clusters: int = Field(default=8, ge=1, description="Clusters that the tree of features is cut into.")
    component_layer: Layer = Field(
        default="encoder.fc",
        description="Recorded layer whose principal components are compared with traits (published: projector).",
    )
    n_components: int = Field(default=8, ge=1, description="Principal components compared with traits.")
    min_annotated: int = Field(
        default=30, ge=4, description="Traits with fewer annotated synapses are listed, not tested."
    )
    significance: float = Field(default=0.05, gt=0, lt=1, description="Level at which a corrected p-value is marked.")
    n_drawn_components: int = Field(default=4, ge=1, description="Components whose low and high synapses are drawn.")
    n_examples: int = Field(default=4, ge=1, le=12, description="Synapses drawn at either end of a component.")
    n_draws: int = Field(default=500, ge=50, description="Bootstrap samples, drawn by neurite, of every interval.")
    n_posteriors: int = Field(default=300, ge=10, description="Synapses per trait in the figure of posteriors.")
    seed: int = Field(default=0, ge=0, description="Seed of bootstrap and draws.")
