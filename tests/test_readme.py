"""Every command in the README is run by a test, and the README's links lead somewhere.

Continuous integration runs `make test` itself. `tests/pipelines/test_own_data.py` types the `kedro run` lines.
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from documentation import MAKE, PROJECT, commands, serving

_SPECIFICATION = importlib.util.spec_from_file_location("renew_readme", PROJECT / "docs/renew_readme.py")
renew_readme = importlib.util.module_from_spec(_SPECIFICATION)
_SPECIFICATION.loader.exec_module(renew_readme)

# What is not typed here: the recipe of the target, and what runs it.
ELSEWHERE = {
    "make demo": ("kedro run --pipeline=demo", "tests/conftest.py", 'Runner(shared)("--pipeline=demo")'),
    "make test": ("-m pytest", ".ci/run", "make test"),
    "make docs": ("mkdocs build", "tests/test_docs.py", '"docs", f"OPTIONS='),
}
# Typed by tests that have volumes.
OF_OWN_DATA = {
    "kedro synapseclr init mine --em=/lab/em --segmentation=/lab/segmentation --table=/lab/synapses.csv": (
        "tests/commands/test_init.py",
        "kedro synapseclr init mine --em {lab}/em --segmentation {lab}/segmentation",
    ),
    "kedro synapseclr check --env=mine": ("tests/commands/test_init.py", "types(following)"),
}
# Each server's page that is asked for, what the answer has, and options without which a test cannot start it.
SERVERS = {
    "make explore": ("api/overview.json", '"planes"', "--no-browser --env=test --params=data_root={data}"),
    "make viz": ("api/main", "compose_report", "--env=test --data-root={data}"),
    "make mlflow": ("health", "OK", ""),
    "make jupyter": ("api", "version", "--no-browser --allow-root"),
}


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_every_command_is_run_by_a_test(page):
    runs = [command for command in commands(page) if not command.startswith("kedro run")]
    assert {"make demo", "make explore"} <= set(runs)
    assert not [command for command in runs if command not in {**ELSEWHERE, **SERVERS, **OF_OWN_DATA}]


@pytest.mark.parametrize("command", OF_OWN_DATA)
def test_commands_on_own_data_are_typed_by_other_tests(command):
    path, text = OF_OWN_DATA[command]
    assert command in commands("README.md")
    assert text in (PROJECT / path).read_text()


@pytest.mark.parametrize("command", ELSEWHERE)
def test_what_is_not_typed_here_runs_elsewhere(command):
    recipe, path, text = ELSEWHERE[command]
    printed = subprocess.run([*MAKE, "-n", command.split()[1]], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert recipe in printed.stdout
    assert text in (PROJECT / path).read_text()


@pytest.mark.parametrize("command", SERVERS)
def test_servers_answer(command, demo, tmp_path):
    page, expected, options = SERVERS[command]
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    variables = demo.variables | {"PATH": search, "JUPYTER_DATA_DIR": str(tmp_path / "jupyter")}
    line = [*MAKE, command.split()[1], f"OPTIONS=--port={{port}} {options.replace('{data}', str(demo.root))}"]
    with serving(line, page, tmp_path / "log", cwd=PROJECT, env=variables) as answer:
        assert expected in answer


def test_the_makefile_serves_where_the_pages_say():
    pages = "".join((PROJECT / page).read_text() for page in ("README.md", "docs/quickstart.md"))
    said = re.findall(r"^(make \w+) .*http://127\.0\.0\.1:(\d+)$", pages, re.M)
    ports = dict(said)
    assert len(set(said)) == len(ports)  # the pages say the same
    assert set(ports) == {"make explore", "make viz", "make mlflow"}
    makefile = (PROJECT / "Makefile").read_text()
    for command, port in ports.items():
        assert re.search(rf"^{command.split()[1]}: .*http://127\.0\.0\.1:{port}$", makefile, re.M)


def test_quickstart_runs_name_what_exists():
    """Its pipelines and query are those of the page on own data, which are typed; here are the names."""
    from synapseclr.commands.run import with_namespaces
    from synapseclr.pipeline_registry import register_pipelines

    pipelines = register_pipelines()
    for command in (c for c in commands("docs/quickstart.md") if c.startswith("kedro run")):
        options = dict(part.removeprefix("--").split("=", 1) for part in command.split()[2:])
        assert set(options) <= {"pipeline", "params", "from-nodes"}
        assert options.get("pipeline", "__default__") in pipelines
        if node := options.get("from-nodes"):
            whole = pipelines["__default__"]
            full = with_namespaces([node], (n.name for n in whole.nodes))
            names = {n.name for n in whole.from_nodes(*full).nodes}
            assert "reporting.compose_report" in names
            assert "pretraining.train_encoder" not in names


def test_the_readme_is_short():
    """Two screens: the rest is in docs/."""
    assert len((PROJECT / "README.md").read_text().splitlines()) <= 90


def test_parameters_of_the_commands_exist():
    from synapseclr.training import PretrainingConfig

    given = re.findall(r"pretraining\.(\w+)=(\w+)", " ".join(commands("docs/own_data.md")))
    assert given
    PretrainingConfig.model_validate(dict(given))


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(path):
    links = re.findall(r"(?:\]\(|<img src=\")([^)#\s\"]+)(?:#[^)]*)?[)\"]", (PROJECT / path).read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (PROJECT / link).exists()] == []


def _evaluation_of_a_demo():
    """One whose trained features score .90 on every trait, the mask statistics more on one and less on the others."""

    def scores(mean):
        return {trait: {"metric": "roc_auc", "mean": mean, "std": 0.01, "folds": 9} for trait in renew_readme.TRAITS}

    masks = scores(0.70) | {"has_mito_pre": {"metric": "roc_auc", "mean": 0.95, "std": 0.01, "folds": 9}}
    representations = {
        "synapseclr": {"encoder.fc": scores(0.90)},
        "random": {"encoder.fc": scores(0.80)},
        "random_convolution": {"encoder.fc": scores(0.75)},
        "trivial_statistics": {"statistics": scores(0.60)},
        "mask_statistics": {"statistics": masks},
        "synapseclr+statistics": {"encoder.fc": scores(0.96)},
    }
    neurites = {"accuracy": 0.9, "n_neurites": 100, "lower_90": 0.8, "upper_90": 0.95, "synapse_accuracy": 0.7}
    found = {
        f"outliers/{name}/{way}/roc_auc": 0.9
        for name in ("synapseclr/encoder.fc", "mask_statistics/statistics")
        for way in renew_readme.WAYS
    }
    return {
        "n_synapses": 600,
        "epochs": 5,
        "representations": representations,
        "consensus": {"all": {"corrected": neurites}},
        "outliers": found,
    }


def test_the_demos_table_names_the_strongest_rival_of_each_trait():
    rows = re.findall(r"^\| (.+) \|$", renew_readme.results(_evaluation_of_a_demo()), re.M)
    cells = {row.split(" | ")[0]: row.split(" | ")[1:] for row in rows}
    assert cells["trait"] == [
        "trained encoder",
        "the same untrained",
        "strongest rival",
        "trained, with mask statistics",
    ]
    assert cells["presynaptic mitochondrion"][2] == "0.950 (mask statistics)"
    assert cells["cleft size (explained variance)"] == [
        "0.900 ± 0.010",
        "0.800 ± 0.010",
        "0.800 (untrained encoder)",
        "0.960 ± 0.010",
    ]


def test_the_readme_has_the_table_that_the_script_writes():
    block = (PROJECT / "README.md").read_text().partition(renew_readme.START)[2].partition(renew_readme.END)[0]
    first_columns = [
        re.findall(r"^(\| [^|]+\|)", text, re.M) for text in (block, renew_readme.results(_evaluation_of_a_demo()))
    ]
    assert first_columns[0] == first_columns[1]
    assert "| strongest rival |" in block
