"""What answers at once loads nothing heavy; no colour; both loudness options everywhere; shell completion."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys

import click
import pytest

from picoquant.cli.main import cli
from picoquant.cli.options import BACKENDS
from picoquant.cli.tree import commands
from picoquant.targets.profile_files import known_targets
from picoquant.yaml_files.locate import shipped_names
from tests.command_line import picoquant


def test_other_libraries_are_not_louder_with_paddle():
    """Paddle 3 sets the root logger to INFO, unless there is one who has set it up."""
    code = (
        "import logging, zlib\nfrom picoquant.cli import console\nconsole.set_up(False, False, False)\nimport paddle\n"
        "other = logging.getLogger('another')\nother.info('loud')\nother.warning('of use')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "of use\n")


HEAVY = "{'paddle', 'onnxruntime', 'onnx', 'cv2', 'matplotlib', 'pycocotools', 'paddleslim', 'scipy'}"
COMMANDS = [" ".join(path) for path, _ in commands(cli)]


def heavy_modules(words, cwd, more="set()"):
    """Which of the heavy modules (and `more`) a command leaves loaded, and its exit code."""
    code = (
        "import sys\n"
        "from picoquant.cli import console, main as m\n"
        "code = console.run_to_exit(lambda: m.cli(sys.argv[1:], standalone_mode=False), False)\n"
        f"print('found', code, *sorted(({HEAVY} | {more}) & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr
    _, exit_code, *found = done.stdout.splitlines()[-1].split()
    return int(exit_code), found


@pytest.mark.parametrize("words", ["--help", "--version", *(f"{name} --help" for name in COMMANDS)])
def test_help_loads_nothing_heavy(words, tmp_path):
    assert heavy_modules(words.split(), tmp_path, "{'numpy', 'yaml'}") == (0, [])


@pytest.mark.parametrize("words", ["targets", "targets --json", "targets show rv1126", "completion zsh"])
def test_tables_of_targets_load_nothing_heavy(words, tmp_path):
    assert heavy_modules(words.split(), tmp_path, "{'numpy'}") == (0, [])


@pytest.mark.parametrize(
    "words",
    [
        "nonsense", "run", "run --nonsense", "run -c nowhere.yaml", "run -c quickstart --input-size 300",
        "run -c quickstart -o TrainConfig.train_itr=1", "run -c quickstart --device tpu", "eval --images 3",
        "eval --backend tpu", "predict", "predict nowhere.jpg", "benchmark", "check --target rv1127", "verify nowhere",
        "targets show rv1127", "package --target rv1126", "convert-weights a.onnx b.npz", "analyze", "completion csh",
    ],
)  # fmt: skip
def test_a_usage_error_loads_nothing_heavy(words, tmp_path):
    assert heavy_modules(words.split(), tmp_path) == (2, [])


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_can_be_quiet_or_verbose(path):
    command = {" ".join(words): command for words, command in commands(cli)}[path]
    options = [option for param in command.params for option in param.opts]
    assert options.count("--quiet") == options.count("--verbose") == 1


def on_a_terminal(words, cwd, **environment):
    """All that a command writes when stdout and stderr are a terminal."""
    ours, theirs = pty.openpty()
    shell = {**os.environ, "TERM": "xterm-256color", **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "picoquant", *words], stdout=theirs, stderr=theirs, cwd=cwd, env=shell
    )
    os.close(theirs)
    text = b""
    while True:
        try:
            more = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        text += more
    os.close(ours)
    process.wait()
    return text.decode()


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}, {"FORCE_COLOR": "1"}])
@pytest.mark.parametrize(
    "words", ["--help", "targets", "targets show rv1126", "run", "run -c nowhere", "doctor"]
)
def test_nothing_is_coloured(words, environment, tmp_path):
    """NO_COLOR is kept by having no colours."""
    if "NO_COLOR" not in environment:
        environment = {**environment, "NO_COLOR": ""}
    text = on_a_terminal(words.split(), tmp_path, **environment)
    assert text.strip()
    assert not re.search(r"\x1b\[[0-9;]*m", text)


def test_json_is_alone_on_stdout(tmp_path):
    done = picoquant("--verbose", "targets", "--json", cwd=tmp_path)
    assert "rv1126" in {target["name"] for target in json.loads(done.stdout)}


def complete(words, shell="bash", cwd=None):
    """What the protocol of `shell` answers for these words, the last of them unfinished."""
    typed = ["picoquant", *words]
    done = picoquant(
        _PICOQUANT_COMPLETE=f"{shell}_complete",
        COMP_WORDS=" ".join(typed),
        COMP_CWORD=str(len(typed) - 1),
        cwd=cwd,
    )
    assert done.returncode == 0 and not done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("words", [["check", "--target"], ["eval", "--target"], ["targets", "show"]])
def test_targets_are_completed(words):
    names = [name for name in known_targets() if name.startswith("rv")]
    assert "rv1126" in names and complete([*words, "rv"]) == ["file,rv", *(f"plain,{name}" for name in names)]


@pytest.mark.parametrize("words", [["package", "--target"], ["run", "--target"]])
def test_all_is_a_target_of_packages(words):
    names = [name for name in known_targets() if name.startswith("a")]
    assert complete([*words, "a"]) == ["file,a", *(f"plain,{name}" for name in (*names, "all"))]


@pytest.mark.parametrize("command", ["run", "train", "eval", "package", "info", "analyze", "convert-weights"])
def test_recipes_and_configurations_are_completed_with_files(command):
    answers = complete([command, "--config", "picodet_s_416_coco_n"])
    assert answers == ["file,picodet_s_416_coco_n", "plain,picodet_s_416_coco_npu"]
    assert complete([command, "-c", "quick"]) == ["file,quick", "plain,quickstart"]


def test_commands_options_stages_and_runtimes_are_completed():
    assert complete(["be"]) == ["plain,benchmark"]
    assert complete(["eval", "--per"]) == ["plain,--per-class"]
    assert complete(["run", "--until", "e"]) == ["plain,export", "plain,evaluate"]
    backends = [answer.split(",")[1] for answer in complete(["eval", "--backend", "paddle"])]
    assert backends == [name for name in BACKENDS if name.startswith("paddle")]
    assert complete(["completion", ""]) == ["plain,bash", "plain,zsh", "plain,fish"]


def test_no_option_that_takes_a_shipped_name_is_left_out():
    """A new command's --config and --target complete, too."""
    for path, command in commands(cli):
        context = click.Context(command)
        for param in command.params:
            wanted = {"--config": "quickstart", "--target": "rv1126"}.get(param.opts[0])
            if wanted:
                assert wanted in [item.value for item in param.shell_complete(context, wanted[:2])], path


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("bash", "complete -o nosort -F _picoquant_completion picoquant"),
        ("zsh", "#compdef picoquant"),
        ("fish", "complete --no-files --command picoquant"),
    ],
)
def test_the_script_of_each_shell_calls_the_protocol(shell, line):
    done = picoquant("completion", shell)
    assert done.returncode == 0 and line in done.stdout
    assert f"_PICOQUANT_COMPLETE={shell}_complete" in done.stdout


def test_bash_itself_takes_the_script(tmp_path):
    """The script with its function called as bash calls it: COMPREPLY holds the shipped names."""
    program = tmp_path / "picoquant"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m picoquant "$@"\n')
    program.chmod(0o755)
    script = picoquant("completion", "bash").stdout + (
        "\ncompopt() { :; }\nCOMP_WORDS=(picoquant run --config quick)\nCOMP_CWORD=3\n"
        "_picoquant_completion picoquant\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n"
    )
    paths = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": os.environ.get("PYTHONPATH", os.getcwd()),
    }
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env={**os.environ, **paths}, cwd=tmp_path
    )
    assert done.stdout.split() == ["quickstart"], done.stderr


def test_what_is_completed_is_what_ships():
    assert {"quickstart", "picodet_s_qat_dis"} <= set(shipped_names("recipes"))
    assert len(complete(["targets", "show", "_"])) == 1


def test_a_log_file_that_cannot_be_written_is_told_once():
    """/dev/full takes nothing, as a full disk does."""
    done = subprocess.run(
        [sys.executable, "-c", "from picoquant.cli import console\nfrom pathlib import Path\n"
         "console.set_up(False, False, False)\nconsole.log_to_file(Path('/dev/full'))\n"
         "[console.LOG.info('line %d', n) for n in range(3)]\nconsole._say('error: the end')"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines() == [
        "line 0",
        "/dev/full is not written any more: No space left on device",
        "line 1",
        "line 2",
        "picoquant: error: the end",
    ]
