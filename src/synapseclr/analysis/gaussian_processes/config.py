"""Parameters of the Gaussian processes that impute traits."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Kernel = Literal["rbf", "matern32", "matern52", "linear", "rbf+linear"]


class GaussianProcessConfig(BaseModel):
    """Gaussian processes: which one, on what, and for how long it is fitted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: Literal["encoder.fc", "projector.mlp.0", "projector.mlp.3"] = Field(
        default="encoder.fc", description="Recorded layer whose features are the inputs."
    )
    kernel: Kernel = Field(default="rbf+linear", description="Covariance of the latent function (published: rbf).")
    n_components: int = Field(
        default=64,
        ge=1,
        description="Principal components of the standardised features that the kernel sees; at most their rank.",
    )
    method: Literal["auto", "exact", "inducing"] = Field(
        default="auto",
        description="auto: exact up to exact_up_to training synapses, inducing points (SGPR) above.",
    )
    exact_up_to: int = Field(
        default=2000, ge=1, description="Largest training set of the exact process; its time grows with the cube."
    )
    n_inducing: int = Field(
        default=256, ge=2, description="Inducing points, the centres of k-means (published: 10 to 400)."
    )
    n_iterations: int = Field(
        default=10, ge=1, description="L-BFGS iterations on the marginal likelihood; it stops earlier once flat."
    )
    n_seeds: int = Field(
        default=1,
        ge=1,
        description="Repetitions of the folds. All models of all repetitions form the ensemble (published: 5 seeds).",
    )
    balance_classes: bool = Field(
        default=True, description="Give both classes the same total weight in training, whatever their numbers."
    )
    dirichlet_alpha: float = Field(
        default=0.01, gt=0, description="Prior concentration of the Dirichlet targets (Milios et al. 2018: 0.01)."
    )
    recalibrate: bool = Field(
        default=True,
        description="Correct probabilities and standard deviations by what was held out in the other folds.",
    )
    compare_synapse_folds: bool = Field(
        default=True, description="Also score on folds by synapse, as published; these leak between neurites."
    )
    n_bins: int = Field(default=10, ge=2, description="Bins of the reliability diagram, equally full.")
