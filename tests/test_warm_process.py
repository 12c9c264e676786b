"""A forked command is like one that was started anew."""

import json
import subprocess
import sys

import pytest
import warm_process

PROBE = """
import atexit, json, os, sys
atexit.register(print, "at its end", file=sys.stderr)
if "hang" in sys.argv:
    import time
    time.sleep(600)
print(json.dumps([os.getcwd(), dict(os.environ), sys.argv, sys.stdin.read(), __name__, "torch" in sys.modules]))
sys.exit(3)
"""


@pytest.fixture
def probe(tmp_path):
    (tmp_path / "probe.py").write_text(PROBE)
    return [sys.executable, "-m", "probe", "a b", "--c=d"], {"cwd": tmp_path, "env": {"ONLY": "this"}}


def test_folder_environment_arguments_output_and_status_are_its_own(probe, tmp_path):
    command, options = probe
    forked = warm_process.run(command, timeout=60, **options)
    started = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, **options)
    assert (forked.returncode, forked.stderr) == (started.returncode, started.stderr) == (3, "at its end\n")
    folder, environment, arguments, read, name, is_warm = json.loads(forked.stdout)
    assert is_warm
    assert environment == {"ONLY": "this"}
    assert (folder, arguments[1:], read, name) == (str(tmp_path), ["a b", "--c=d"], "", "__main__")


def test_a_command_that_hangs_is_ended(probe):
    command, options = probe
    with pytest.raises(subprocess.TimeoutExpired):
        warm_process.run([*command, "hang"], timeout=1, **options)
    assert warm_process.run(command, timeout=60, **options).returncode == 3
