"""The last lines of a run: commands that a shell takes as they are, for what the run has made."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest

from picoquant.commands.next_steps import next_steps
from picoquant.stages.plan import load_plan
from picoquant.storage.run_folder import RunFolder
from tests.command_line import picoquant


@pytest.fixture
def steps(tmp_path, monkeypatch):
    """Lines for a run folder called `my run` with these stages done, targets, and packages."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells/b.jpg").write_bytes(b"")

    def lines(done, targets=("rv1126",), last=None, **more):
        run = RunFolder(Path("my run"))
        stages = {name: {"status": "done" if name in done else "skipped"} for name in ("train", *done)}
        (run.root / "run.json").write_text(json.dumps({"stages": stages}))
        for target in targets if "package" in done else ():
            (run.root / "package" / target / "sample").mkdir(parents=True)
            (run.root / "package" / target / "sample/image.png").write_bytes(b"")
        sets = [
            f"Package.target=[{','.join(targets)}]",
            "EvalDataset={dataset_dir: cells, anno_path: val.json}",
        ]
        return next_steps(
            load_plan("quickstart", [*sets, "Synthetic="]), RunFolder(run.root), "my run", last, **more
        )

    return lines


def commands(lines):
    """Each indented line as its words, after checking that the line before says what for."""
    places = [place for place, line in enumerate(lines) if line.startswith("    ")]
    assert all(not lines[place - 1].startswith(" ") for place in places)
    return [shlex.split(lines[place]) for place in places]


def test_a_whole_run(steps):
    lines = steps(["train", "export", "quantize", "evaluate", "package"])
    assert commands(lines) == [
        ["picoquant", "report", "--save-dir", "my run"],
        ["picoquant", "predict", "my run/package/rv1126/sample/image.png", "--save-dir", "my run"],
        ["picoquant", "verify", "my run/package/rv1126.tar.gz"],
    ]
    assert [line.split(":")[0] for line in lines[::2]] == ["look", "try", "take it to the board"]
    assert "copy 'my run/package/rv1126.tar.gz'; README.md in it says how it is run" in lines[4]


def test_several_targets_and_one_without_a_program(steps):
    lines = steps(
        ["export", "quantize", "evaluate", "package"], ("a311d", "generic_onnx"), opt="/opt/lite tool"
    )
    assert commands(lines)[-1] == [
        "picoquant",
        "verify",
        "my run/package/a311d.tar.gz",
        "--opt",
        "/opt/lite tool",
    ]
    assert "that of your board, my run/package/a311d.tar.gz or my run/package/generic_onnx.tar.gz" in lines[4]
    assert "README.md in it says what it holds" in lines[4]


def test_without_a_package(steps):
    """Also where the folder holds that of an earlier run."""
    for done in (["export", "quantize", "evaluate"], ["export", "quantize", "evaluate", "package"]):
        lines = steps(done, last="evaluate")
        assert commands(lines)[1:] == [
            ["picoquant", "predict", "cells/b.jpg", "--save-dir", "my run"],
            ["picoquant", "package", "--save-dir", "my run"],
        ]
        assert "here for rv1126" in lines[4]
    assert commands(steps(["export", "quantize"], last="quantize", opt="o"))[-1] == (
        ["picoquant", "package", "--save-dir", "my run", "--opt", "o"]
    )


def test_a_run_that_was_to_end_early_goes_on(steps):
    go_on = ["picoquant", "run", "--config", "my run/config.yml", "--save-dir", "my run"]
    assert commands(steps(["train"], last="train", device="gpu:0")) == [[*go_on, "--device", "gpu:0"]]
    lines = steps(["train", "export"], last="export")
    assert commands(lines)[-1] == go_on and "what the FP32 model finds" in lines[2]


def test_a_report_that_is_there_and_images_that_are_gone(steps, tmp_path):
    shutil.rmtree(tmp_path / "cells")
    lines = steps(["export", "quantize", "evaluate"], last="evaluate", page=Path("my run/report.html"))
    assert lines[0] == "look: the whole run on one page is my run/report.html"
    assert commands(lines) == [["picoquant", "package", "--save-dir", "my run"]]


def test_the_lines_of_a_real_run_run(evaluated_run, tmp_path):
    """Copied from what it said, as they stand; what is on the disk only is made again."""
    home = tmp_path / "red cells"
    run = shutil.copytree(evaluated_run, home / "my run")
    done = picoquant(
        "run", "-c", "my run/config.yml", "--save-dir", "my run", "--until", "evaluate", cwd=home
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("    picoquant ")]
    report, predict, package = (shlex.split(line)[1:] for line in lines)
    for words in (report, [*predict, "--threshold", "0"]):
        again = picoquant(*words, cwd=home)
        assert again.returncode == 0, again.stderr
    assert (run / "report.html").is_file() and len(list((run / "predictions").glob("*"))) == 2
    assert package == ["package", "--save-dir", "my run"]
    assert lines[-1] == done.stderr.splitlines()[-1]
