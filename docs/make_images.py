"""Renew the pictures of the README and of the documentation from the outputs of a demo.

    make demo && python docs/make_images.py

``--data-root`` names another place of the outputs. The numbers in the README are renewed by ``docs/renew_readme.py``,
screenshots of kedro-viz and MLflow by their own scripts, ``analysis/leakage.png`` by
``benchmarks/leakage.py --figure``.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import pandas as pd
from make_overview_image import draw_overview
from matplotlib.figure import Figure
from PIL import Image

from synapseclr.plotting import contact_sheet, training_figure
from synapseclr.volumes import ChunkStore

PROJECT = Path(__file__).resolve().parents[1]
IMAGES = PROJECT / "docs/images"
FIGURES = {
    "manifold_overlays": "manifold",
    "similarity_strip": "similarity",
    "augmented_pairs": "augmented_pairs",
    "outlier_sheet": "outliers",
    "trait_score_comparison": "scores",
    "imputation_predictions": "imputation",
    "consensus_calibration": "consensus",
}
ANALYSIS_FIGURES = {  # below docs/images/analysis, for docs/analysis/*.md and docs/outputs.md
    "manifold_clusters": "clusters",
    "manifold_axis_strip": "axis_strip",
    "manifold_axis_profiles": "axis_profiles",
    "manifold_orientation": "orientation",
    "leakage_figure": "leakage_scores",
    "component_traits_figure": "component_traits",
    "component_strip": "component_strip",
    "layer_spectra_figure": "spectra",
    "feature_correlations": "feature_correlations",
    "trait_summaries_figure": "trait_summaries",
    "trait_posteriors": "posteriors",
    "outlier_detection_figure": "outlier_detection",
    "similarity_distances": "similarity_distances",
    "imputation_reliability": "imputation_reliability",
    "learning_curves": "learning_curves",
    "censored_consensus": "few_labels",
    "morphometry_figure": "morphometry",
    "occlusion_figure": "occlusion",
    "occlusion_maps": "occlusion_maps",
}
WIDTH_PX = 1200


def shrink(picture: Image.Image, destination: Path, width_px: int = WIDTH_PX) -> None:
    """Scale a picture to the page's width and reduce it to 256 colours, rare ones (the cleft) included."""
    picture = picture.convert("RGB")
    height = round(picture.height * width_px / picture.width)
    small = picture.resize((width_px, height), Image.Resampling.LANCZOS)
    small.quantize(256, Image.Quantize.FASTOCTREE).save(destination, optimize=True)


def rendered(figure: Figure) -> Image.Image:
    """A figure as a picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200)
    return Image.open(buffer)


def draw_chunks(data_root: Path) -> Figure:
    """Twelve synapses drawn at random."""
    store = ChunkStore(str(data_root / "02_intermediate/synapse_chunks.zarr"))
    rows = np.sort(np.random.default_rng(1).choice(len(store), 12, replace=False))
    return contact_sheet(store.read(rows), store.voxel_size_nm)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=PROJECT / "data")
    root = parser.parse_args().data_root
    (IMAGES / "analysis").mkdir(parents=True, exist_ok=True)
    for figure, name in {**FIGURES, **{key: f"analysis/{name}" for key, name in ANALYSIS_FIGURES.items()}}.items():
        with Image.open(root / f"08_reporting/{figure}.png") as opened:
            shrink(opened, IMAGES / f"{name}.png")
    shrink(rendered(draw_overview(root)), IMAGES / "overview.png", 1600)
    shrink(rendered(draw_chunks(root)), IMAGES / "chunks.png")
    history = pd.read_parquet(root / "06_models/training_history.parquet")
    shrink(rendered(training_figure(history)), IMAGES / "training.png")
