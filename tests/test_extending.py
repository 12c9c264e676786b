"""The examples of docs/extending.md: their code runs, and their edits apply to the files that they name."""

import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml
from documentation import PROJECT

import synapseclr

SOURCE = Path(synapseclr.__file__).parent


def blocks(heading, language):
    """Indented blocks of one language below a heading, without the comment that names their file; by that file."""
    page = (PROJECT / "docs/extending.md").read_text()
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert section, f"docs/extending.md has no heading {heading}"
    found = {}
    for text in re.findall(rf"^    ```{language}\n(.*?)^    ```$", section, re.DOTALL | re.MULTILINE):
        first, _, rest = textwrap.dedent(text).partition("\n")
        found[first.removeprefix("# ").partition(",")[0]] = rest
    return found


def executed(code, name="example", **known):
    """A module made of code."""
    module = ModuleType(name)
    vars(module).update(known)
    sys.modules[name] = module  # dataclasses and pydantic look their module up
    exec(compile(code, name, "exec", dont_inherit=True), vars(module))
    return module


def edited(path, edits, *more):
    """The source of a file after edits, which are parted by ``...``: lines with ``-`` go, lines with ``+`` come."""
    source = (SOURCE / path.removeprefix("src/synapseclr/")).read_text()
    for edit in edits.split("...\n"):
        lines = [(line[:1], line[1:].rstrip(" ")) for line in edit.splitlines()]
        old, new = ("\n".join(text for sign, text in lines if sign in kept) + "\n" for kept in ("- ", "+ "))
        assert source.count(old) == 1, f"{path} has no single place with:\n{old}"
        source = source.replace(old, new)
    future = "from __future__ import annotations\n"
    return future + "\n".join(more) + "\n" + source.replace(future, "")


@pytest.fixture(autouse=True)
def _modules_as_before():
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("example", "synapseclr.objectives.barlow")):
            del sys.modules[name]


def test_an_augmentation():
    """The line of YAML fits the class, which ``tests/augmentation/test_operations.py`` runs."""
    (code,) = blocks("An augmentation", "python").values()
    operation = executed(code, "example_inversion").Inversion
    (written,) = blocks("An augmentation", "yaml").values()
    (parameters,) = [line[operation.name] for line in yaml.safe_load(written)["operations"] if operation.name in line]
    assert operation(**parameters).model_dump() == parameters


def test_a_statistic():
    (path, function), *_ = blocks("A statistic", "python").items()
    statistics = executed(edited(path, blocks("A statistic", "diff")[path], function), "example_statistic")
    chunk_cxyz = np.zeros((2, 12, 10, 6), np.uint8)
    chunk_cxyz[1, 2:10, 4:6, 3] = 2
    named = dict(
        zip(statistics.MASK_STATISTIC_NAMES, statistics.mask_statistics(chunk_cxyz, (4.0, 4.0, 40.0)), strict=True)
    )
    assert named["cleft_elongation"] == pytest.approx(np.std(np.arange(8)) / np.std(np.arange(2)))
    assert statistics.cleft_elongation(np.zeros_like(chunk_cxyz), (4.0, 4.0, 40.0)) == 0
    assert "cleft_elongation" in statistics.MASK_STATISTICS.columns


def test_a_section_of_the_report():
    import anndata

    from synapseclr.plotting.report import render_report

    (path, function), *_ = blocks("A section of the report", "python").items()
    nodes = executed(edited(path, blocks("A section of the report", "diff")[path], function), "example_nodes")
    features_nf = np.arange(40, dtype=np.float32).reshape(10, 4)
    found = nodes.describe_embedding(anndata.AnnData(features_nf), nodes.ReportingConfig())
    assert [section["title"] for section in found["sections"]] == ["Embedding", "Feature lengths"]
    html = render_report("A run", {}, found["sections"], footer="")
    assert "Euclidean lengths of the feature vectors." in html
    assert f"{np.median(np.linalg.norm(features_nf, axis=1)):.3g}" in html


def test_a_volume_format(tmp_path):
    from synapseclr.errors import VolumeError

    layer_code, dataset_code = blocks("A volume format", "python").values()
    volumes = executed(layer_code + dataset_code, "example_volumes")
    (written,) = blocks("A volume format", "yaml").values()
    (entry,) = yaml.safe_load(written).values()
    assert entry.pop("type").endswith(".NpyVolumeDataset")
    array_xyz = np.arange(8 * 7 * 6, dtype=np.uint64).reshape(8, 7, 6)
    np.save(tmp_path / "em.npy", array_xyz)
    layer = volumes.NpyVolumeDataset(**entry | {"filepath": tmp_path / "em.npy"}).load()
    box_xyz = layer.at_resolution((8, 8, 40)).read(np.array([5, 5, -1]), np.array([4, 2, 3]))
    np.testing.assert_array_equal(box_xyz[:3, :, 1:], array_xyz[5:, 5:, :2])
    assert not box_xyz[3:].any()
    assert not box_xyz[:, :, 0].any()
    with pytest.raises(VolumeError, match=r"EM volume .* has no scale of 4 x 4 x 40 nm; it has 8 x 8 x 40 nm"):
        layer.at_resolution((4, 4, 40))
    (tmp_path / "em.npy").write_text("no array")
    with pytest.raises(VolumeError, match=r"cannot be opened .* Give the path of a \.npy file\."):
        layer.at_resolution((8, 8, 40))


def test_an_objective():
    (path, function), *_ = blocks("An objective", "python").items()
    executed(function, "synapseclr." + path.removeprefix("src/synapseclr/").removesuffix(".py").replace("/", "."))
    ((config_path, edits),) = blocks("An objective", "diff").items()
    config = executed(edited(config_path, edits), "example_config").ObjectiveConfig(name="barlow_twins", redundancy=0.1)
    assert config.model_dump() == {"name": "barlow_twins", "redundancy": 0.1}
    generator = torch.Generator().manual_seed(0)
    z_i, z_j = (torch.randn(16, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    expected = 0.0
    for row in range(5):
        for column in range(5):
            correlation = np.corrcoef(z_i[:, row], z_j[:, column])[0, 1]
            expected += (1 - correlation) ** 2 if row == column else 0.1 * correlation**2
    assert float(config.build()(z_i, z_j)) == pytest.approx(expected)
