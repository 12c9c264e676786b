"""The release: contents of wheel and sdist, versions that agree, the lock file, and the Dockerfile."""

import re
import shutil
import tomllib
import zipfile
from collections import Counter
from email import message_from_string
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml
from documentation import PROJECT
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from synapseclr import __version__
from synapseclr.commands.new import write_project

COPIED = ("src", "conf", "notebooks", "scripts")
SINGLE = ("pyproject.toml", "README.md", "LICENSE", "CITATION.cff", ".gitignore")
PRIVATE = ("conf/local/credentials.yml", "notebooks/.ipynb_checkpoints/a.ipynb", "data/01_raw/mine/em.bin")
OLDEST_PYTHON = "3.11.2"  # Debian 12's
SETTINGS = tomllib.loads((PROJECT / "pyproject.toml").read_text())


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone with credentials, leftovers of Jupyter and data, of which no release may have anything."""
    clone = tmp_path_factory.mktemp("clone")
    for folder in COPIED:
        shutil.copytree(PROJECT / folder, clone / folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in SINGLE:
        shutil.copy(PROJECT / name, clone)
    for place in PRIVATE:
        (clone / place).parent.mkdir(parents=True, exist_ok=True)
        (clone / place).write_text("secret")
    return clone


@pytest.fixture(scope="module")
def installed(clone, tmp_path_factory):
    """The wheel, laid out as pip does."""
    folder = tmp_path_factory.mktemp("installed")
    (path,) = WheelBuilder(str(clone)).build(directory=str(folder / "dist"), versions=["standard"])
    with zipfile.ZipFile(path) as wheel:
        assert max(Counter(wheel.namelist()).values()) == 1
        wheel.extractall(folder / "site-packages")
    return folder / "site-packages"


def test_the_wheel_has_the_package_and_the_projects_files(clone, installed):
    sources = {place.removeprefix("src/") for place in files(clone) if place.startswith("src/")}
    for place in files(clone) - set(PRIVATE):
        if place.startswith(("conf/", "notebooks/")) or place == "scripts/viz.py":
            sources.add(f"synapseclr/project/{place}")
    released = {place for place in files(installed) if ".dist-info/" not in place}
    assert released == sources
    assert "synapseclr/explorer/web/index.html" in released
    assert "synapseclr/plotting/templates/report.html.j2" in released


def test_an_installed_package_writes_the_project_that_a_clone_writes(clone, installed, tmp_path):
    for name, origin in (("wheel", installed / "synapseclr/project"), ("clone", clone)):
        write_project(tmp_path / name / "mine", origin)
    assert files(tmp_path / "wheel") == files(tmp_path / "clone")
    assert all(
        (tmp_path / "wheel" / place).read_bytes() == (tmp_path / "clone" / place).read_bytes()
        for place in files(tmp_path / "wheel")
    )


def test_the_wheel_says_what_it_is(installed):
    (folder,) = installed.glob("*.dist-info")
    metadata = message_from_string((folder / "METADATA").read_text())
    assert metadata["Version"] == __version__
    assert SpecifierSet(metadata["Requires-Python"]).contains(OLDEST_PYTHON)
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert set(metadata.get_all("Provides-Extra")) == set(SETTINGS["project"]["optional-dependencies"])
    assert "synapseclr = synapseclr.commands.synapseclr:synapseclr" in (folder / "entry_points.txt").read_text()


def test_the_sdist_has_what_the_wheel_is_made_of(clone):
    released = {included.distribution_path for included in SdistBuilder(str(clone)).recurse_included_files()}
    assert not released & set(PRIVATE)
    assert {place for place in files(clone) if place.startswith(COPIED)} - set(PRIVATE) <= released
    assert set(SINGLE) <= released


def test_versions_agree():
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    latest = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", (PROJECT / "CHANGELOG.md").read_text(), re.M)[
        0
    ]
    assert latest == (__version__, str(citation["date-released"]))
    assert citation["version"] == __version__
    assert citation["license"] == SETTINGS["project"]["license"]
    assert f"version: {__version__}<" in (PROJECT / "docs/images/badges/version.svg").read_text()
    assert f"licence: {citation['license']}<" in (PROJECT / "docs/images/badges/licence.svg").read_text()
    assert f"synapseclr-{__version__}-py3-none-any.whl" in (PROJECT / "docs/install.md").read_text()


def test_the_method_is_cited_as_in_the_readme():
    (paper,) = yaml.safe_load((PROJECT / "CITATION.cff").read_text())["references"]
    assert f"bioRxiv {paper['doi'].removeprefix('10.1101/')}" in (PROJECT / "README.md").read_text()
    assert [author["family-names"] for author in paper["authors"]] == ["Wilson", "Babadi"]


def test_pythons_are_those_that_continuous_integration_has():
    workflow = yaml.safe_load((PROJECT / ".github/workflows/ci.yml").read_text())
    pythons = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    badge = (PROJECT / "docs/images/badges/python.svg").read_text()
    assert f"python: {' | '.join(pythons)}<" in badge
    classifiers = SETTINGS["project"]["classifiers"]
    assert [c.rpartition(" ")[2] for c in classifiers if "Python :: 3." in c] == pythons
    assert re.search(r"^ARG PYTHON=(.*)$", (PROJECT / "Dockerfile").read_text(), re.M)[1] in pythons


def _locked():
    lines = (PROJECT / "requirements.lock").read_text().splitlines()
    return {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines if not line.startswith("#")}


def test_the_lock_file_has_every_dependency():
    extras = SETTINGS["project"]["optional-dependencies"]
    wanted = [
        *SETTINGS["project"]["dependencies"],
        *extras["dev"],
        *extras["cave"],
        *extras["docs"],
        *extras["notebooks"],
    ]
    locked = _locked()
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        assert name == "synapseclr" or requirement.specifier.contains(locked[name]), name


def test_the_lock_file_is_for_the_oldest_python_too():
    """A release that needs a later patch release of Python would end `make setup` on Debian 12."""
    locked = _locked()
    installed = {canonicalize_name(found.name): found for found in distributions()}
    compared = [name for name, version in locked.items() if name in installed and installed[name].version == version]
    assert len(compared) > 0.9 * len(locked)
    needs = {name: installed[name].metadata.get("Requires-Python", "") for name in compared}
    assert not [name for name in compared if not SpecifierSet(needs[name]).contains(OLDEST_PYTHON)]


def test_the_dockerfile_copies_what_the_builder_is_sent():
    lines = (PROJECT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*"
    allowed = {pattern[1:] for pattern in patterns if pattern.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (PROJECT / "Dockerfile").read_text(), re.M)
    assert {source for line in copied for source in line.split()} == allowed
    assert all((PROJECT / source).exists() for source in allowed)
    assert {"conf/local", "**/__pycache__"} <= set(patterns)


def test_the_image_has_the_libraries_of_opengl():
    named = re.search(r"^OPENGL := (.*)$", (PROJECT / "Makefile").read_text(), re.M)[1]
    assert f"install -y --no-install-recommends {named} " in (PROJECT / "Dockerfile").read_text()
    assert named in (PROJECT / "docs/install.md").read_text()


def test_the_dockerfile_names_no_host():
    text = Path(PROJECT / "Dockerfile").read_text()
    assert "://" not in text
    assert set(re.findall(r"^FROM (\S+)", text, re.M)) == {"python:${PYTHON}-slim-bookworm"}
