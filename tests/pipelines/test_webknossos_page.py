"""docs/webknossos.md walked literally, on a small tissue: from boxes to a table, an environment and chunks."""

import shutil
from xml.sax.saxutils import quoteattr

import numpy as np
import pandas as pd
import pytest
from documentation import PROJECT, code_blocks, commands
from loopback_volumes import Tissue, write_layer
from readers_project import Reader

SIZE_NM = (16, 16, 40)
PAGE = "docs/webknossos.md"


@pytest.fixture(scope="module")
def tissue():
    return Tissue()


@pytest.fixture(scope="module")
def reader(tissue, tmp_path_factory):
    """A project, and the exports of a laboratory: layers, vesicles of the presynaptic sides, and boxes as NML."""
    project, lab = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("lab")
    shutil.copytree(PROJECT / "conf", project / "conf", ignore=shutil.ignore_patterns("local"))
    (project / "src").mkdir()  # the package is installed
    (project / "pyproject.toml").symlink_to(PROJECT / "pyproject.toml")
    em, segmentation, _ = tissue.draw(SIZE_NM)
    is_pre = np.isin(segmentation, tissue.synapses["pre"].astype(np.uint64))
    vesicles = is_pre & (np.random.default_rng(0).random(is_pre.shape) < 0.1)
    vesicles |= (segmentation > 0) & (np.random.default_rng(1).random(is_pre.shape) < 0.01)
    write_layer(lab, "em", {SIZE_NM: em}, "raw")
    write_layer(lab, "segmentation", {SIZE_NM: segmentation}, "compressed_segmentation")
    write_layer(lab, "vesicles", {SIZE_NM: vesicles.astype(np.uint64)}, "compressed_segmentation")
    boxes = "".join(_box(*row) for row in zip(range(1, 28), *_centres_vx(tissue).T, strict=True))
    empty = _box(99, *(_centres_vx(tissue)[0] + (0, 0, 10**4)))
    (lab / "boxes.nml").write_text(f"<things><parameters>{boxes}{empty}</parameters></things>")
    return Reader(project, lab, len(tissue.synapses))


def _centres_vx(tissue):
    points = [tissue.synapses[[f"{side}_{axis}" for axis in "xyz"]].to_numpy() for side in ("pre", "post")]
    return (np.mean(points, axis=0) / SIZE_NM).round().astype(int)


def _box(number, x, y, z):
    size = {"width": 30, "height": 30, "depth": 12}
    lower = dict(zip("XYZ", np.array([x, y, z]) - (15, 15, 6), strict=True))
    attributes = {f"topLeft{axis}": place for axis, place in lower.items()} | size
    attributes |= {"id": number, "name": f"box {number}"}
    return f"<userBoundingBox {' '.join(f'{name}={quoteattr(str(value))}' for name, value in attributes.items())}/>"


@pytest.fixture(scope="module")
def walked(reader):
    """Everything on the page up to its last section, typed in its order."""
    (table, _), blocks = code_blocks(PAGE, "python"), code_blocks(PAGE, "bash")
    (reader.project / "table.py").write_text(table.replace("/lab/", f"{reader.lab}/"))
    typed = ["python table.py", *(block.replace("/lab/", f"{reader.lab}/") for block in blocks), *commands(PAGE)]
    return [reader.types(command).printed for command in typed]


def test_centres_are_at_the_contact_of_the_two_segments_of_a_box(walked, reader, tissue):
    table = pd.read_csv(reader.lab / "boxes.csv")
    assert table["id"].tolist() == list(range(1, 28))
    pairs = table[["pre_root_id", "post_root_id"]].to_numpy()
    assert np.sort(pairs, axis=1).tolist() == np.sort(tissue.synapses[["pre", "post"]], axis=1).tolist()
    distance_nm = table[[f"ctr_pos_{axis}_nm" for axis in "xyz"]].to_numpy() - _centres_vx(tissue) * SIZE_NM
    assert np.linalg.norm(distance_nm, axis=1).max() < 100
    assert "box 99 holds fewer than two segments" in walked[0]


def test_the_commands_lead_to_chunks_with_sides_by_vesicles_and_the_name_of_their_box(walked, reader, tissue):
    assert "Next: kedro synapseclr check --env boxes" in walked[1]
    assert "the sides of 27 of 27 synapses" in walked[2]
    assert "Preprocessing can begin" in walked[4]
    metadata = pd.read_parquet(reader.project / "data/boxes/03_primary/synapse_metadata.parquet")
    metadata = metadata.sort_values("synapse_id")
    assert metadata["box"].tolist() == [f"box {number}" for number in range(1, 28)]
    assert metadata["pre_root_id"].tolist() == tissue.synapses["pre"].tolist()
    assert metadata["post_root_id"].tolist() == tissue.synapses["post"].tolist()
    assert set(metadata["cleft_source"]) == {"painted"}
    assert not metadata[["is_pre_missing", "is_post_missing"]].to_numpy().any()
