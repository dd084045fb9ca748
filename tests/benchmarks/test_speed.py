"""One command for all figures of speed: sides by turns, medians, and what is refused."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from benchmarks.results.speed import load_speeds
from benchmarks.speed.__main__ import speeds, tell
from benchmarks.speed.turns import ROOT, Taken, check_out, earlier, run, turns
from benchmarks.speed.works import LEVELS, NOW, PEER, Row, Work, all_works


@pytest.fixture
def options(tmp_path):
    return argparse.Namespace(
        shared=tmp_path / "shared", work=tmp_path / "work", images=1000, turns=5, before=None, record=False
    )


def test_every_script_is_there_and_every_figure_has_its_own_name(options):
    works = all_works(options)
    scripts = {arguments[0] for work in works.values() for arguments in work.sides.values()}
    assert [name for name in scripts if not (ROOT / "benchmarks" / name).is_file()] == []
    names = [row.name for work in works.values() for row in work.rows]
    assert len(set(names)) == len(names) > 10
    for name, work in works.items():  # so that `--only` of a row's command names its work
        assert all(name_of_row.name.split("_")[0] == name.split("_")[0] for name_of_row in work.rows)


SCRIPT = """
import json, sys, pathlib
kept = pathlib.Path(__file__).with_suffix(".count")
count = len(kept.read_text()) if kept.is_file() else 0
kept.write_text("x" * (count + 1))
print("what libraries say")
if sys.argv[1] == "broken":
    sys.exit("it has no peer")
print(json.dumps({"wall": [9.0, 2.0, 4.0, 3.0, 5.0][count % 5] * (2 if sys.argv[1] == "theirs" else 1), "cpu": 1.0}))
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    root = tmp_path / "root"
    (root / "benchmarks").mkdir(parents=True)
    (root / "benchmarks" / "one.py").write_text(SCRIPT)
    monkeypatch.setattr("benchmarks.speed.turns.ROOT", root)
    monkeypatch.setattr("benchmarks.speed.turns.BUSY_SECONDS", 0.01)
    monkeypatch.setattr("benchmarks.speed.turns.busy_share", lambda seconds: 0.03)
    return root


def test_medians_of_the_turns_and_a_side_that_fails(script, options, capsys):
    row = Row("one", "a work", bound=lambda bounds, said: bounds["least"] * said["cpu"])
    taken = turns(Work((row,), {NOW: ("one.py", "ours")}, "nobody"), options)
    (found,) = speeds(Work((row,), {}, "nobody"), taken, {"least": 1.0}, options)
    assert (found.now, found.now_cpu, found.bound, found.turns, found.busy) == (4.0, 1.0, 1.0, 5, 0.03)
    assert found.peer is None and found.theirs is None and found.before is None
    sides = {NOW: ("one.py", "ours"), PEER: ("one.py", "broken")}
    taken = turns(Work((row,), sides, "nobody"), options)
    assert "one.py, peer: not measured: it has no peer" in capsys.readouterr().out
    assert len(taken.said[NOW]) == 5 and PEER not in taken.said  # asked once


TOGETHER = """
import json, sys
assert sys.argv[1:] == ["--json", "--turns", "5"]
turns = [{"wall": float(turn), "cpu": 1.0} for turn in range(1, 6)]
print(json.dumps({"ours": turns, "theirs": [], "failed": {"theirs": "no answer after 3 s"}, "busy": 0.07}))
"""


def test_sides_that_a_script_measures_together(script, options, capsys):
    (script / "benchmarks" / "both.py").write_text(TOGETHER)
    names = {NOW: "ours", PEER: "theirs"}
    work = Work((Row("one", "a work"),), {}, "nobody", together=("both.py", "--json"), names=names)
    taken = turns(work, options)
    (found,) = speeds(work, taken, {}, options)
    assert (found.now, found.now_cpu, found.theirs, found.turns, found.busy) == (3.0, 1.0, None, 5, 0.07)
    assert "both.py, peer: not measured: no answer after 3 s" in capsys.readouterr().out
    (script / "benchmarks" / "both.py").write_text("import sys\nsys.exit('it broke')")
    assert turns(work, options).failed == {NOW: "it broke", PEER: "it broke"}


def test_another_side_of_ours_and_an_earlier_commit_behind_those_measured_together(script, options, tmp_path):
    told = "import json\nprint(json.dumps({'ours': [{'wall': 3.0}], 'theirs': [{'wall': 8.0}], 'way': [{'wall': 2.0}],"
    (script / "benchmarks" / "both.py").write_text(f"{told} 'failed': {{}}, 'busy': 0.01}}))")
    there = earlier(tmp_path) / "benchmarks"
    there.mkdir(parents=True)
    (there / "both.py").write_text("import json\nprint(json.dumps({'wall': 6.0}))")
    options.before, options.work = "a30e038", tmp_path
    names = {NOW: "ours", PEER: "theirs", LEVELS: "way"}
    rows = (Row("one", "a work"), Row("two", "it another way", side=LEVELS))
    work = Work(rows, {NOW: ("both.py", "--only")}, "nobody", together=("both.py",), names=names)
    found = speeds(work, turns(work, options), {}, options)
    assert [(one.name, one.now, one.theirs, one.before) for one in found] == [
        ("one", 3.0, 8.0, 6.0),
        ("two", 2.0, 8.0, None),
    ]


def test_what_is_recorded_can_be_read_again(options, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.speed.__main__.ROOT", tmp_path)
    monkeypatch.setattr("benchmarks.speed.__main__.commit", lambda: "a30e038aa")
    (tmp_path / "results").mkdir()
    said = [{"wall": 1.0 + turn / 1000, "cpu": 2.0} for turn in range(5)]
    theirs = [{"wall": 3.0, "cpu": 5.0}] * 5
    work = Work((Row("training", "a step"),), {}, "the other")
    options.record = True
    for busy, kept in ((0.5, []), (0.01, ["training"])):
        tell(speeds(work, Taken({NOW: said, PEER: theirs}, {}, busy), {}, options), options)
        assert list(load_speeds(tmp_path / "results")) == kept
    found = load_speeds(tmp_path / "results")["training"]
    assert (found.now, found.theirs, found.peer, found.turns) == (1.002, 3.0, "the other", 5)
    assert found.ratio == pytest.approx(3 / 1.002)


def test_a_moment_counts_from_the_command(script):
    (script / "benchmarks" / "moment.py").write_text(
        "import json, time\nprint(json.dumps({'at': time.time(), 'cpu': 1}))"
    )
    assert 0 < run(("moment.py",), root=script)["wall"] < 30
    with pytest.raises(ChildProcessError, match=r"there is no benchmarks/none\.py"):
        run(("none.py",), root=script)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "trainnig"], "--only trainnig: there is training, training_bf16, qat"),
        (["--record", "--turns", "3"], "at least 5"),
    ],
)
def test_what_cannot_be_measured_is_said(tmp_path, words, said):
    command = [sys.executable, "-m", "benchmarks.speed", "--work", str(tmp_path / "work"), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode and said in done.stderr and not (tmp_path / "work").exists()


def test_the_generated_data_set_is_a_data_set(tmp_path):
    from benchmarks.start_speed import ANNOTATIONS, HELD_OUT, IMAGES, write_data_set
    from picoquant.data.formats.load import load_dataset
    from picoquant.data.settings import DatasetSettings

    write_data_set(tmp_path / "data", 60)
    settings = SimpleNamespace(dataset_dir=str(tmp_path / "data"), image_dir=IMAGES)
    for file, images in ((ANNOTATIONS, 60), (HELD_OUT, 50)):
        dataset = load_dataset(DatasetSettings(**vars(settings), anno_path=file), training=False)
        document = json.loads((tmp_path / "data" / file).read_text())
        assert len(dataset) == images and dataset.num_classes == 80
        assert 5 < len(document["annotations"]) / images < 10
        assert {"segmentation", "area", "iscrowd", "image_id", "bbox", "category_id", "id"} == set(
            document["annotations"][0]
        )
        assert not dataset.repairs.unreadable and not dataset.repairs.missing


def test_an_earlier_commit_has_its_own_scripts_and_todays_that_it_has_not(tmp_path, monkeypatch):
    root, before = tmp_path / "root", tmp_path / "work" / "before"

    def git(*words: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words]
        return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.strip()

    (root / "benchmarks").mkdir(parents=True)
    git("init", "-q")
    commits = []
    for files in ({"one": "one of then"}, {"one": "one of now", "two": "two of now"}):
        for name, text in files.items():
            (root / "benchmarks" / f"{name}.py").write_text(text)
        git("add", "-A")
        git("commit", "-qm", "a commit")
        commits.append(git("rev-parse", "HEAD"))
    monkeypatch.setattr("benchmarks.speed.turns.ROOT", root)
    before.parent.mkdir()
    for commit, one in ((commits[0], "one of then"), (commits[1], "one of now"), (commits[0], "one of then")):
        check_out(commit, before)
        assert (before / "benchmarks" / "one.py").read_text() == one
        assert (before / "benchmarks" / "two.py").read_text() == "two of now"


def test_an_earlier_side_imports_its_own_package(script, tmp_path):
    there = tmp_path / "there"
    (there / "benchmarks").mkdir(parents=True)
    (there / "ours.py").write_text("WHERE = 'there'")
    (there / "benchmarks" / "one.py").write_text(
        "import json, ours; print(json.dumps({'where': ours.WHERE}))"
    )
    assert run(("one.py",), root=there) == {"where": "there"}
