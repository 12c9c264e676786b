"""The documentation site: it builds without warnings and network, and nothing on it is fetched from elsewhere."""

import importlib.util
import os
import re
import subprocess

import pytest
from documentation import MAKE, PROJECT

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NOWHERE)
    command = [*MAKE, "docs", f"OPTIONS=--site-dir={folder}"]
    done = subprocess.run(command, cwd=PROJECT, env=os.environ | proxies, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def _module(name):
    specification = importlib.util.spec_from_file_location(name, PROJECT / f"docs/site_build/{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_no_page_fetches_anything_from_elsewhere(site):
    fetching = re.compile(r"<(?:script|img|iframe|link rel=.?(?:stylesheet|preload|icon))[^>]*(?:src|href)=.?https?:")
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    assert not [page.name for page in pages if fetching.search(page.read_text())]


def test_every_parameter_is_in_the_configuration_reference(site):
    configuration = _module("configuration")
    page = (site / "configuration.html").read_text()
    models = configuration.parameter_models()
    assert {"simulation", "preprocessing", "pretraining", "embedding", "reporting"} <= set(models)
    names = [path for name, model in models.items() for path, _ in configuration._fields(model, name)]
    assert len(names) > 150
    assert not [name for name in names if f"<code>.{name.partition('.')[2]}</code>" not in page]


def test_every_exported_name_is_in_the_api_reference(site):
    import ast

    api = _module("api")
    for package in api.PACKAGES:
        page = (site / "api" / f"{package}.html").read_text()
        tree = ast.parse((PROJECT / f"src/synapseclr/{package}/__init__.py").read_text())
        exported = api.exports(tree, f"synapseclr.{package}")
        assert not [name for name, place in exported.items() if f'id="{place}"' not in page]


def test_the_site_can_be_searched_from_its_files(site, browser):
    page, said = browser.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda request: said.append(request.url))
    page.goto(f"file://{site}/analysis/manifold.html")
    page.get_by_role("textbox", name="Search").fill("same_neurite")
    page.locator(".md-search-result__link", has_text="same_neurite").first.wait_for(state="attached")
    assert not said
    page.close()


@pytest.mark.parametrize("name", ["index", "own_data", "configuration", "api/augmentation", "analysis/manifold"])
def test_axe_finds_nothing_serious(site, browser, serious_findings, name):
    page = browser.new_page()
    page.goto(f"file://{site}/{name}.html")
    assert page.title()
    assert not serious_findings(page)
    page.close()
