import getpass
import logging
import os

import pytest

from synapseclr.errors import VolumeError
from synapseclr.hooks import LogGuard
from synapseclr.privacy.redaction import mask_secrets, project_folder, redact, redact_tree


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("https://ada:pa55@host.org/x", "https://***@host.org/x"),
        ("postgresql://ada:pa/5@5@db:5432/runs", "postgresql://***@db:5432/runs"),
        ("http://token@host", "http://***@host"),
        ("kedro run --params=em.url=https://a:b@host/em,pretraining.epochs=3", None),
        ("https://host/em?X-Amz-Signature=abcdef&part=1", "https://host/em?X-Amz-Signature=***&part=1"),
        ("https://host/em?sv=1&sig=ab%2Fcd#top", "https://host/em?sv=1&sig=***#top"),
        ("storage.password=pa55,data_root=data", "storage.password=***,data_root=data"),
        ("{'password': 'pa 55', 'user': 'ada'}", "{'password': ***, 'user': 'ada'}"),
        ('"aws_secret_access_key": "pa55"', '"aws_secret_access_key": ***'),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        # What only looks like a secret stays.
        ("http://127.0.0.1:5000/a@b", "http://127.0.0.1:5000/a@b"),
        ("gs://bucket/prefix@v1/em", "gs://bucket/prefix@v1/em"),
        ("git+https://github.com/a/b@main", "git+https://github.com/a/b@main"),
        ("simulation.signature: texture", "simulation.signature: texture"),
        ("n_tokens=5, tokens: 7", "n_tokens=5, tokens: 7"),
        ("write to ada@host.org", "write to ada@host.org"),
    ],
)
def test_secrets_are_masked_and_the_rest_stays(text, masked):
    masked = masked or "kedro run --params=em.url=https://***@host/em,pretraining.epochs=3"
    assert mask_secrets(text) == masked
    assert mask_secrets(masked) == masked


def test_paths_are_relative_to_the_project_or_lose_their_place():
    project, home = str(project_folder()), os.path.expanduser("~")
    assert redact(project) == "."
    assert redact(f"{project}/data/06_models") == "data/06_models"
    assert redact(f"sqlite:///{project}/mlflow.db") == "sqlite:///mlflow.db"
    assert redact(f"root={project}/data, other") == "root=data, other"
    assert redact(f"{home}/my data/em.zarr") == "~/my data/em.zarr"
    assert redact("data_root=/scratch/lab/results") == "data_root=.../results"
    assert redact("{'data_root': '/scratch/lab/results', 'a': 1}") == "{'data_root': '.../results', 'a': 1}"
    assert redact("file:///scratch/lab/artifacts") == "file://.../artifacts"
    assert redact(f"/scratch/{getpass.getuser()}") == ".../user"


@pytest.mark.parametrize(
    "text",
    ["gs://bucket/prefix/em", "pretraining/train_loss", "nm/s", "models:/synapseclr-encoder/1", "a / b", "../shared/x",
     "https://host.org/a/b", "data/06_models", "runs:/0123/encoder", "one and/or two", "<b>x</b>"],
)  # fmt: skip
def test_what_is_no_path_of_this_machine_stays(text):
    assert redact(text) == text


def test_what_stands_behind_the_name_of_a_secret_is_masked_as_a_whole():
    tree = {"credentials": {"key": "k"}, "a": [{"api_key": 5, "url": "s3://a:b@c"}], "n": 3, "token": None}
    assert redact_tree(tree) == {
        "credentials": "***",
        "a": [{"api_key": "***", "url": "s3://***@c"}],
        "n": 3,
        "token": None,
    }


def test_our_errors_do_not_show_passwords():
    error = VolumeError("https://ada:pa55@host/em cannot be read.", 3)
    assert error.args == ("https://***@host/em cannot be read.", 3)


def test_the_log_shows_no_passwords_whoever_writes(capsys, monkeypatch):
    handler = logging.StreamHandler()
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    LogGuard().after_context_created()
    LogGuard().after_context_created()
    assert len(handler.filters) == 1
    logger = logging.getLogger("another package")
    logger.warning("reading %s, %d%% done", "https://ada:pa55@host/em", 5)
    logger.warning("%d%% done", 5)
    assert capsys.readouterr().err.splitlines() == ["reading https://***@host/em, 5% done", "5% done"]


def test_an_error_of_another_package_is_shown_without_the_password_in_it():
    error = RuntimeError("dataset https://ada:pa55@host/em failed")
    error.__cause__ = OSError(5, "cannot connect to https://ada:pa55@host/em")
    error.__cause__.__context__ = error
    LogGuard().on_pipeline_error(error)
    assert str(error) == "dataset https://***@host/em failed"
    assert str(error.__cause__) == "[Errno 5] cannot connect to https://***@host/em"
