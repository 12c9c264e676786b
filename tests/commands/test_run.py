"""Lists on the command line, as Kedro's own `run` takes them once the project's commands are loaded."""

import click
import pytest
from kedro.framework.cli.project import run

from synapseclr import cli
from synapseclr.commands.run import parse_assignments, split_at_commas, with_namespaces
from synapseclr.commands.sweep import Sweep
from synapseclr.errors import ConfigurationError
from synapseclr.volumes import PreprocessingConfig


def parsed(text):
    assert cli.cli.name == "synapseclr"  # loading the commands is what changes `run`
    return run.make_context("run", [f"--params={text}"]).params["params"]


def test_a_list_reaches_its_parameter():
    given = parsed(
        "preprocessing.position_voxel_size_nm=[4,4,40],preprocessing.max_rejected_fraction=0.2,data_root=gs://b/p"
    )
    assert given == {
        "preprocessing": {"position_voxel_size_nm": [4, 4, 40], "max_rejected_fraction": 0.2},
        "data_root": "gs://b/p",
    }
    assert PreprocessingConfig(**given["preprocessing"]).position_unit_nm == (4, 4, 40)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b=1,c=text", {"a": {"b": 1}, "c": "text"}),
        ("similarity.query=12+34", {"similarity": {"query": "12+34"}}),
        ("a=[[1, 2], [3]], b=null", {"a": [[1, 2], [3]], "b": None}),
        ("a={x: 1, y: [2, 3]}", {"a": {"x": 1, "y": [2, 3]}}),
        ("a='one, two',b=3", {"a": "one, two", "b": 3}),
        ("report.title=the lab's own,b=1", {"report": {"title": "the lab's own"}, "b": 1}),
        ("a=x=y", {"a": "x=y"}),
        ("", {}),
    ],
)
def test_everything_else_is_as_kedro_reads_it(text, expected):
    assert parsed(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a=[4,4", r"lacks a closing \]"),
        ("a=4,4]", r"has a \] that does not belong"),
        ("a=4,4,40", r"--params has '4', expected name=value.* a list is name=\[4,4,40\]"),
        ("=4", "expected name=value"),
    ],
)
def test_what_cannot_be_read_is_an_error_that_says_how_to_write_it(text, message):
    with pytest.raises(click.UsageError, match=message):
        parsed(text)


def test_a_grid_has_lists_as_values():
    grid = ["preprocessing.chunk_size_vx=[80,80,32],[96,96,38]"]
    plan = Sweep.from_arguments("s", "preprocessing", None, grid, parse_assignments("a=[1,2],b=3"))
    assert plan.grid == {"preprocessing.chunk_size_vx": ("[80,80,32]", "[96,96,38]")}
    assert plan.shared == {"a": "[1,2]", "b": "3"}
    (option,) = [word for word in plan.command(plan.combinations()[1], "r") if word.startswith("--params=")]
    assert parsed(option.removeprefix("--params="))["preprocessing"]["chunk_size_vx"] == [96, 96, 38]
    with pytest.raises(ConfigurationError, match=r"lacks a closing \]"):
        Sweep.from_arguments("s", "preprocessing", None, ["a=[1,2"], {})


def test_parts_are_split_outside_of_brackets_only():
    assert split_at_commas("a=[1,(2,3)],, b={x: 'y, z'}") == ["a=[1,(2,3)]", "b={x: 'y, z'}"]


NODES = ["embedding.embed_synapses", "embedding.random.embed_synapses", "imputation.random_convolution.embed_synapses"]


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("embed_synapses", "embedding.embed_synapses"),
        ("random.embed_synapses", "embedding.random.embed_synapses"),
        ("random_convolution.embed_synapses", "imputation.random_convolution.embed_synapses"),
        ("embedding.embed_synapses", "embedding.embed_synapses"),
        ("unknown", "unknown"),
    ],
)
def test_nodes_are_named_with_or_without_their_pipeline(given, full):
    assert with_namespaces([given], NODES) == [full]
