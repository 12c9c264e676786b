import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for explorer_runs, gestures

from explorer_runs import make_outputs, serve

ARTIFACTS = Path(__file__).resolve().parents[2] / "test-artifacts" / "explorer"


@pytest.fixture(scope="module")
def explorer(tmp_path_factory):
    """The explorer over 60 synapses, as a web server."""
    folder = tmp_path_factory.mktemp("explorer")
    server, served = serve(make_outputs(folder), folder / "synapse_labels")
    yield served
    server.shutdown()


@pytest.fixture(scope="module")
def big_explorer(tmp_path_factory):
    """The explorer over 100,000 synapses."""
    folder = tmp_path_factory.mktemp("big")
    server, served = serve(make_outputs(folder, 100_000, 32), folder / "synapse_labels")
    yield served
    server.shutdown()


@pytest.fixture
def open_page(browser, request):
    """Opens pages; afterwards, no script may have failed, and nothing may have been asked of another host."""
    contexts, problems, foreign = [], [], []

    def opened(address, **options):
        context = browser.new_context(viewport={"width": 1300, "height": 850}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(45_000)  # CI may have other work beside it
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
        page.on("dialog", lambda dialog: (problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda asked: is_local(asked.url) or foreign.append(asked.url))
        page.goto(address)
        page.wait_for_selector("html[data-ready=true]")
        return page

    yield opened
    for number, context in enumerate(contexts):
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        for page in context.pages:
            page.screenshot(path=ARTIFACTS / f"{request.node.name.replace('/', '-')}_{number}.png")
        context.close()
    assert not foreign
    assert not [problem for problem in problems if "status of 40" not in problem]  # the browser's words for a 404


def is_local(url):
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))
