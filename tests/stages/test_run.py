"""The order of stages, what is run again, and what a kill leaves; with small stages that write files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from picoquant.config.recipe import Recipe
from picoquant.errors import ConfigError, PicoquantError, UserError
from picoquant.stages.plan import Plan
from picoquant.stages.run import run_stages, select
from picoquant.stages.stage import Context, Stage
from picoquant.storage.run_folder import RunFolder, fingerprint
from picoquant.utils.device import available_cpus


def copying_stage(name, value, needed=True):
    """Writes `value["v"]` into a file, and says so as its metric."""

    def work(context, out, keep):
        (out / "value.txt").write_text(str(value["v"]))
        value["runs"] = value.get("runs", 0) + 1
        return {"v": value["v"]}

    return Stage(
        name,
        "copies",
        lambda c: None if needed else "not wanted",
        lambda c: {"v": value["v"]},
        work,
    )


def context(tmp_path):
    return Context(Plan(Recipe({}, "test")), RunFolder(tmp_path / "out"), "cpu")


def test_a_finished_stage_runs_again_only_when_its_inputs_change(tmp_path):
    value = {"v": 1}
    stage = copying_stage("train", value)
    run_stages(context(tmp_path), [stage])
    run_stages(context(tmp_path), [stage])
    assert value["runs"] == 1
    value["v"] = 2
    run_stages(context(tmp_path), [stage])
    assert value["runs"] == 2
    assert (tmp_path / "out/train/value.txt").read_text() == "2"


def test_force_and_lost_files_run_it_again(tmp_path):
    value = {"v": 1}
    stage = copying_stage("train", value)
    run_stages(context(tmp_path), [stage])
    run_stages(context(tmp_path), [stage], force=True)
    assert value["runs"] == 2
    (tmp_path / "out/train/value.txt").unlink()
    run_stages(context(tmp_path), [stage])
    assert value["runs"] == 3


def test_the_manifest_says_status_seconds_metrics_and_hashes(tmp_path):
    run_stages(
        context(tmp_path),
        [copying_stage("train", {"v": 1}), copying_stage("export", {"v": 2}, False)],
    )
    manifest = json.loads((tmp_path / "out/run.json").read_text())
    train = manifest["stages"]["train"]
    assert train["status"] == "done" and train["metrics"] == {"v": 1} and train["seconds"] >= 0
    assert train["cpus"] == available_cpus() and train["cpu_seconds"] >= 0
    # sha256 of the one byte "1", from `printf 1 | sha256sum`
    assert train["files"]["value.txt"] == {
        "bytes": 1,
        "sha256": "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b",
    }
    assert manifest["stages"]["export"] == {"status": "skipped", "reason": "not wanted"}
    assert manifest["versions"]["picoquant"]
    assert (tmp_path / "out/config.yml").is_file()


def test_a_failing_stage_leaves_the_old_result_in_place(tmp_path):
    value = {"v": 1}
    stage = copying_stage("train", value)
    run_stages(context(tmp_path), [stage])

    def fail(context, out, keep):
        (out / "value.txt").write_text("half")
        raise UserError("no luck")

    value["v"] = 2
    with pytest.raises(UserError):
        run_stages(context(tmp_path), [Stage("train", "", stage.not_needed, stage.inputs, fail)])
    assert (tmp_path / "out/train/value.txt").read_text() == "1"
    assert RunFolder(tmp_path / "out").record("train")["metrics"] == {"v": 1}


def test_a_stage_that_writes_nothing_is_our_failure(tmp_path):
    stage = Stage("train", "", lambda c: None, lambda c: {}, lambda c, out, keep: {})
    with pytest.raises(PicoquantError, match="train wrote nothing"):
        run_stages(context(tmp_path), [stage])


def test_what_a_stage_keeps_survives_a_kill_and_goes_with_other_inputs(tmp_path):
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from picoquant.storage.run_folder import RunFolder
        run = RunFolder(Path(sys.argv[1]))
        with run.locked():
            out, keep = run.work("train", "inputs", fresh=False)
            (out / "half").write_text("half")
            (keep / "checkpoint").write_text("step 3")
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "out")])
    assert done.returncode == -signal.SIGKILL
    run = RunFolder(tmp_path / "out")
    with run.locked():  # the killed process holds no lock
        assert not run.folder("train").exists()
        out, keep = run.work("train", "inputs", fresh=False)
        assert list(out.iterdir()) == [] and (keep / "checkpoint").read_text() == "step 3"
        out, keep = run.work("train", "other inputs", fresh=False)
        assert list(keep.iterdir()) == []


def test_a_second_run_is_refused_by_name(tmp_path):
    first, second = RunFolder(tmp_path), RunFolder(tmp_path)
    with (
        first.locked(),
        pytest.raises(UserError, match=f"in use by process {os.getpid()}"),
        second.locked(),
    ):
        pass
    with second.locked():
        pass


def test_a_damaged_manifest_says_what_to_do(tmp_path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UserError, match=r"run\.json is damaged; remove it"):
        RunFolder(tmp_path)


def test_a_save_dir_below_a_file_is_bad_input(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another --save-dir"):
        RunFolder(tmp_path / "file" / "out")


def test_from_and_until_select_and_refuse_the_wrong_order():
    stages = [copying_stage(name, {"v": 0}) for name in ("train", "export", "quantize")]
    assert [s.name for s in select(stages, "export", None)] == ["export", "quantize"]
    assert [s.name for s in select(stages, None, "export")] == ["train", "export"]
    with pytest.raises(ConfigError, match="--from quantize comes after --until train"):
        select(stages, "quantize", "train")


def test_equal_settings_have_equal_fingerprints_whatever_their_order():
    assert fingerprint({"a": 1, "b": (2, 3)}) == fingerprint({"b": [2, 3], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
