import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for explorer_runs

from explorer_runs import make_outputs, serve


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
