"""Names and paths of the source in the documentation exist: modules, their attributes, and files."""

import importlib
import re

import pytest
from documentation import PROJECT

PAGES = ["README.md", "CONTRIBUTING.md", *sorted(str(p.relative_to(PROJECT)) for p in (PROJECT / "docs").rglob("*.md"))]
EXAMPLES = {  # files that docs/extending.md tells a reader to write
    "src/synapseclr/augmentation/operations/inversion.py",
    "src/synapseclr/objectives/barlow.py",
    "src/synapseclr/volumes/layers/npy.py",
    "synapseclr.datasets.volumes.NpyVolumeDataset",
    "synapseclr.datasets.NpyVolumeDataset",
    "synapseclr.objectives.barlow",
}
OF_READERS = ("data/", "build/", "conf/mine", "conf/mycave", "conf/boxes", "conf/local", "conf/mitochondria")
TOP = (*(p.name for p in PROJECT.iterdir() if p.is_dir() and p.name[0] != "."), "src")
ROOMS = tuple(p.name for p in (PROJECT / "src/synapseclr").iterdir() if p.is_dir() and p.name[0].isalpha())


def dotted_names(text):
    """Names such as ``synapseclr.volumes.ChunkStore``."""
    return set(re.findall(r"(?<![\w./-])synapseclr(?:\.[A-Za-z_]\w*)+", text))


def paths(text):
    """Paths such as ``src/synapseclr/cli.py`` and ``volumes/layers/``; not those of a reader's own files."""
    rooms = {*TOP, *ROOMS}
    written = re.findall(
        r"(?<=[`(\s#])((?:\.\./)*(?:[A-Za-z_]\w*/)+(?:[\w-]+\.(?:py|md|yml|sh|toml))?)(?=[`)\s,:;#])", text
    )
    cleaned = {path.replace("../", "") for path in written}
    return {path for path in cleaned if path.split("/")[0] in rooms and not path.startswith(OF_READERS)}


def exists(name):
    """Tell whether a dotted name is a module or an attribute that it has."""
    module, attributes = name, []
    while module:
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError:
            module, _, last = module.rpartition(".")
            attributes.insert(0, last)
            continue
        for attribute in attributes:
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return False


def test_references_are_found():
    text = "`synapseclr.volumes.ChunkStore.read`, `training/nowhere.py` and (src/synapseclr/cli.py) in data/01_raw/x.py"
    assert dotted_names(text) == {"synapseclr.volumes.ChunkStore.read"}
    assert paths(text) == {"training/nowhere.py", "src/synapseclr/cli.py"}
    assert exists("synapseclr.volumes.ChunkStore.read")
    assert not exists("synapseclr.volumes.NoStore")


@pytest.mark.parametrize("page", PAGES)
def test_dotted_names_exist(page):
    names = dotted_names((PROJECT / page).read_text()) - EXAMPLES
    assert not [name for name in sorted(names) if not exists(name)]


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist(page):
    written = paths((PROJECT / page).read_text()) - EXAMPLES
    places = (PROJECT, PROJECT / "src/synapseclr", (PROJECT / page).parent)
    assert not [path for path in sorted(written) if not any((place / path).exists() for place in places)]


@pytest.mark.parametrize("page", PAGES)
def test_files_named_alone_exist(page):
    """A module named without its folder, such as ``preparation.py``."""
    named = set(re.findall(r"`(\w+\.py)`", (PROJECT / page).read_text()))
    files = {p.name for top in ("src", "scripts", "docs", "benchmarks", "tests") for p in (PROJECT / top).rglob("*.py")}
    assert not sorted(named - files - {"x.py", "test_x.py"})  # stand for any module
