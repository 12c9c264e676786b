"""What a user can mend is said in one or two sentences; what is a fault of the program keeps its traceback."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog, DatasetError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from synapseclr.commands.explore import explore
from synapseclr.commands.run import make_run_command
from synapseclr.commands.synapseclr import check, verify
from synapseclr.errors import ConfigurationError, TableError
from synapseclr.hooks import ParameterGuard, untracked
from synapseclr.hooks.error_sentences import did_you_mean, parameter_sentences, sentence_of
from synapseclr.pipeline_registry import register_pipelines

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def project(monkeypatch):
    monkeypatch.chdir(PROJECT)
    bootstrap_project(PROJECT)


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int = Field(3, ge=1)


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    epochs: int = 1
    inner: Inner = Inner()


def raised(error):
    try:
        raise error
    except type(error) as caught:
        return caught


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"epoch": 3}, "train has no parameter 'epoch'. Did you mean epochs? Known are epochs, inner."),
        ({"inner": {"sise": 3}}, "train.inner has no parameter 'sise'. Did you mean size? Known are size."),
        ({"epochs": "three"}, "The parameter train.epochs is 'three': input should be a valid integer"),
        ({"inner": {"size": 0}}, "The parameter train.inner.size is 0: input should be greater than or equal to 1."),
    ],
)
def test_parameters_are_named_as_one_writes_them(values, said):
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(values)
    assert parameter_sentences("train", Outer, caught.value).startswith(said)


def test_many_names_are_not_listed_where_one_is_meant():
    names = [f"name_{n}" for n in range(100)]
    assert did_you_mean("name_5x", names) == " Did you mean name_5? docs/configuration.md lists all."
    assert did_you_mean("zzz", ["a", "b"]) == " Known are a, b."


def test_an_error_of_ours_is_found_below_those_that_wrap_it():
    error = DatasetError("synapse_table: Failed while validating")
    error.__cause__ = TableError("The synapse table has no rows.")
    assert sentence_of(raised(error)) == "The synapse table has no rows."


def test_a_file_that_is_missing_is_told_without_the_entry():
    error = DatasetError("synapse_table: Failed while loading data from dataset CSV(a=1).\n[Errno 2] No such file: 'x'")
    assert sentence_of(raised(error)) == "synapse_table cannot be loaded: [Errno 2] No such file: 'x'."


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("a bug"), TypeError("another")])
def test_a_fault_of_the_program_has_no_sentence(error):
    assert sentence_of(raised(error)) is None


@pytest.mark.parametrize(
    ("look_up", "said"),
    [
        (lambda whole: whole.only_nodes("cut_chunks"), "This pipeline has no node 'cut_chunks'. Did you mean cut_"),
        (lambda whole: whole.from_inputs("synapse_tabel"), "no dataset 'synapse_tabel'. Did you mean synapse_table?"),
    ],
)
def test_names_that_kedro_does_not_find_come_with_the_nearest(look_up, said):
    with pytest.raises(ValueError, match="does not contain") as caught:
        look_up(register_pipelines()["__default__"])
    assert said in sentence_of(caught.value)


def test_a_parameter_that_no_pipeline_takes_comes_with_the_nearest():
    with pytest.raises(
        ConfigurationError, match=r"Unknown parameter pretrainin\. Did you mean pretraining\? Known are"
    ):
        ParameterGuard().before_pipeline_run({"runtime_params": {"pretrainin": 1}}, DataCatalog({}))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--env=mine"], "There is no configuration environment 'mine': the folder conf/mine is missing. Known are"),
        (
            ["--env=tset"],
            "There is no configuration environment 'tset': the folder conf/tset is missing. Did you mean test?",
        ),
        (["--env=test", "--pipeline=preprocesing"], "There is no pipeline 'preprocesing'. Did you mean preprocessing?"),
    ],
)
def test_kedro_run_ends_in_a_sentence(arguments, said):
    with untracked():  # there is no need of a database
        done = CliRunner().invoke(make_run_command(), arguments)
    assert done.exit_code == 1
    errors = done.output[done.output.index("Error: ") :]
    assert errors.startswith(f"Error: {said}")
    assert len(errors.splitlines()) == 1
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("command", "arguments"),
    [(explore, ["--no-browser"]), (verify, []), (check, [])],
    ids=["explore", "chunks verify", "check"],
)
def test_the_other_commands_name_the_environments_too(command, arguments):
    done = CliRunner().invoke(command, ["--env=tset", *arguments])
    assert done.exit_code == 1
    assert "Error: There is no configuration environment 'tset'" in done.output
    assert "Did you mean test?" in done.output


def test_the_traceback_is_there_for_those_who_ask():
    done = CliRunner().invoke(make_run_command(), ["--env=mine", "--verbose"])
    assert "There is no configuration environment 'mine'" in str(done.exception)
    assert done.exc_info[2] is not None
    assert "Error: " not in done.output
