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
    with_masks: bool = Field(
        default=True, description="Join the statistics of the masks to the features, with the same weight."
    )
    kernel: Kernel = Field(default="rbf+linear", description="Covariance of the latent function (published: rbf).")
    n_components: int = Field(
        default=32,
        ge=1,
        description="Principal components of the standardised features that radial kernels see; at most their rank.",
    )
    n_linear_components: int = Field(
        default=256, ge=1, description="Components that linear kernels, and the linear part of rbf+linear, see."
    )
    method: Literal["auto", "exact", "inducing", "variational"] = Field(
        default="auto",
        description="auto: exact up to exact_mean_up_to training synapses, inducing points by the collapsed bound "
        "(SGPR) up to inducing_up_to, stochastic variational inference (SVGP, the published method) above.",
    )
    fit_on: int = Field(
        default=500,
        ge=10,
        description="Training synapses, drawn at random, that the exact process fits its hyper-parameters on; it is "
        "conditioned on all.",
    )
    exact_up_to: int = Field(
        default=2000,
        ge=1,
        description="Largest training set for exact variances; above, those given n_inducing of the synapses alone.",
    )
    exact_mean_up_to: int = Field(
        default=10_000, ge=1, description="Largest training set for exact means; their time grows with the cube."
    )
    dirichlet_up_to: int = Field(
        default=500,
        ge=0,
        description="Largest training set of classes whose posterior is that of the regression on Dirichlet targets; "
        "above, exact processes have the logistic likelihood (Laplace's approximation).",
    )
    inducing_up_to: int = Field(
        default=100_000, ge=1, description="Largest training set whose synapses all take part in every iteration."
    )
    n_inducing: int = Field(
        default=1000, ge=2, description="Inducing points, at first the centres of k-means (published: 10 to 400)."
    )
    n_iterations: int = Field(
        default=15, ge=1, description="L-BFGS iterations on the marginal likelihood; it stops earlier once flat."
    )
    n_steps: int = Field(default=3000, ge=1, description="Steps of the variational fit (published: 20,001).")
    learning_rate: float = Field(default=0.01, gt=0, description="Of its Adam (published: 0.001).")
    batch_size: int | None = Field(default=2048, ge=1, description="Synapses a step of it; null: all (published).")
    n_seeds: int = Field(
        default=5,
        ge=1,
        description="Repetitions of the folds. All models of all repetitions form the ensemble (published: 5 seeds).",
    )
    balance_classes: bool = Field(
        default=True, description="Give both classes the same total weight in training, whatever their numbers."
    )
    dirichlet_alpha: float = Field(
        default=0.1,
        gt=0,
        description="Prior concentration of the Dirichlet targets that the kernel of classes is fitted on "
        "(Milios et al. 2018: 0.01, better scores here: 0.1).",
    )
    recalibrate: bool = Field(
        default=True,
        description="Correct probabilities and standard deviations by what was held out in the other folds.",
    )
    compare_synapse_folds: bool = Field(
        default=True, description="Also score on folds by synapse, as published; these leak between neurites."
    )
    n_bins: int = Field(default=10, ge=2, description="Bins of the reliability diagram, equally full.")

    @property
    def n_inputs(self) -> int:
        """Principal components that the kernel's inputs hold."""
        if self.kernel == "linear":
            return self.n_linear_components
        return max(self.n_components, self.n_linear_components) if self.kernel == "rbf+linear" else self.n_components
