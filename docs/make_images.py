"""Renew the pictures of the README from the outputs of a demo: ``python docs/make_images.py`` after ``make demo``."""

from pathlib import Path

from PIL import Image

PROJECT = Path(__file__).resolve().parents[1]
IMAGES = PROJECT / "docs/images"
FIGURES = {
    "manifold_overlays": "manifold",
    "similarity_strip": "similarity",
    "augmented_pairs": "augmented_pairs",
    "outlier_sheet": "outliers",
}
WIDTH_PX = 1200


def shrink(source: Path, destination: Path) -> None:
    """Scale a picture to the README's width and reduce it to 256 colours, rare ones (the cleft) included."""
    with Image.open(source) as opened:
        picture = opened.convert("RGB")
    height = round(picture.height * WIDTH_PX / picture.width)
    small = picture.resize((WIDTH_PX, height), Image.Resampling.LANCZOS)
    small.quantize(256, Image.Quantize.FASTOCTREE).save(destination, optimize=True)


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    for figure, name in FIGURES.items():
        shrink(PROJECT / f"data/08_reporting/{figure}.png", IMAGES / f"{name}.png")
