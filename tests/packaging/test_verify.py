"""Packages looked at again: whole, changed, and what their sample gives in the runtimes that are here."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from picoquant.backends.base import Machine, load_backends
from picoquant.backends.paddle.runtime import open_predictor
from picoquant.backends.table import BACKENDS
from picoquant.errors import UserError
from picoquant.packaging.archive import write_archive
from picoquant.packaging.package import Models, package
from picoquant.packaging.sample import read_ppm
from picoquant.packaging.verify import verify
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.network_input import feed_of_image
from picoquant.runtimes.backends import running
from picoquant.runtimes.model import model_of_folder
from picoquant.storage.files import sha256
from picoquant.targets.profiles import load_target
from tests.command_line import picoquant, refusal
from tests.packaging.board import blocks

WITHOUT_LITE = {name: folder for name, folder in BACKENDS.items() if name != "lite"}


@pytest.fixture(scope="module")
def made(small, opt, tmp_path_factory):
    out = tmp_path_factory.mktemp("package")
    return package(Models(small), load_target("rv1126"), out, opt, sample=blocks())


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made.folder, tmp_path / "rv1126")


def listed_anew(folder, name):
    """Make the manifest agree with a file that was changed."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"][name]["sha256"] = sha256(folder / name)
    path.write_text(json.dumps(manifest))


def test_folder_and_archive_hold_in_every_runtime(made, opt):
    for path in (made.folder, made.archive):
        result = verify(path, Machine(1, opt=str(opt.path)))
        assert result.target == "rv1126"
        checks = {check.name: check for check in result.checks}
        assert list(checks) == ["files", *(backend.check for backend in load_backends() if backend.check)]
        assert checks["tflite"].holds is None
        assert checks["tflite"].said == ("the package has no model_int8.tflite",)
        assert checks["files"].said == (f"{len(made.files) - 1} files as in manifest.json",)
        for name in ("paddle", "onnx", "paddle_lite_x86"):
            assert checks[name].holds, checks[name].said
            assert checks[name].said == ("7 detections as expected",)


def test_paddle_lite_s_x86_runtime_computes_the_int8_model_s_network(made, opt):
    if opt.python is None:
        pytest.skip(f"{opt.path} has no Python runtime beside it")
    folder = ModelFolder.open(made.folder / "paddle")
    feed = feed_of_image(read_ppm(made.folder / "sample/image.ppm"), folder.config)
    expected = open_predictor(folder, threads=1)(feed)
    with running(model_of_folder(folder), "lite", Machine(opt=str(opt.path))) as ready:
        found = ready.predict(feed)
    for one, other in zip(expected, found):
        assert one.shape == other.shape
        noise = np.square(one - other).sum() / np.square(one).sum()
        assert noise < 10**-2.5  # 25 dB: what rounding to 8 bits leaves of three layers


def test_changed_missing_and_new_files_are_named_and_nothing_of_them_is_run(copy):
    (copy / "labels.txt").write_text("other\n")
    (copy / "board/src/main.cpp").unlink()
    (copy / "paddle/extra").write_text("x")
    (copy / "settings.json").unlink()
    (copy / "settings.json").symlink_to(copy / "manifest.json")
    result = verify(copy)
    assert not result.holds
    assert set(result.checks[0].said) == {
        "changed: labels.txt",
        "missing: board/src/main.cpp",
        "not listed: paddle/extra",
        "missing: settings.json",
    }
    assert [(check.name, check.holds) for check in result.checks] == [("files", False), ("sample", None)]


def test_a_model_that_detects_otherwise_does_not_hold(copy, monkeypatch):
    monkeypatch.setenv("PICOQUANT_LITE_OPT", "/nowhere/opt")
    path = copy / "sample/expected.json"
    values = json.loads(path.read_text())
    best = max(values["detections"], key=lambda row: row["score"])
    assert best["score"] > values["tolerance"]["min_score"]
    best["class"] = (best["class"] + 1) % 3
    path.write_text(json.dumps(values))
    listed_anew(copy, "sample/expected.json")
    result = verify(copy)
    checks = {check.name: check for check in result.checks}
    assert checks["files"].holds and not checks["onnx"].holds and not checks["paddle"].holds
    assert any("expected: " in line or "found: " in line for line in checks["onnx"].said)
    assert checks["paddle_lite_x86"].holds is None
    assert "toolchain install" in checks["paddle_lite_x86"].said[0]


def test_a_damaged_onnx_model_is_said(copy):
    (copy / "model_int8.onnx").write_bytes(b"no model")
    listed_anew(copy, "model_int8.onnx")
    check = next(check for check in verify(copy, known=WITHOUT_LITE).checks if check.name == "onnx")
    assert not check.holds and "model_int8.onnx is no ONNX model or is damaged" in check.said[0]


def test_what_is_no_package(copy, tmp_path):
    with pytest.raises(UserError, match="no such package: .*nothing"):
        verify(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty is no package: manifest.json is missing"):
        verify(tmp_path / "empty")
    (tmp_path / "empty/manifest.json").write_text("[]")
    with pytest.raises(UserError, match="lists no files"):
        verify(tmp_path / "empty")
    (tmp_path / "empty/manifest.json").write_text('{"files": {}, "target": []}')
    with pytest.raises(UserError, match=r"manifest\.json does not say what target it is for"):
        verify(tmp_path / "empty")
    (tmp_path / "empty/manifest.json").write_text('{"files": {"../x": {"sha256": ""}}}')
    with pytest.raises(UserError, match="'../x' would lie outside"):
        verify(tmp_path / "empty")


def test_command_line_exit_codes_and_json(made, copy, tmp_path):
    done = picoquant("verify", made.archive, "--json")
    result = json.loads(done.stdout)
    assert result["checks"]["onnx"]["holds"] and done.returncode == (0 if result["holds"] else 1)
    (copy / "labels.txt").write_text("other\n")
    write_archive(copy, tmp_path / "changed.tar.gz", "rv1126")
    done = picoquant("verify", tmp_path / "changed.tar.gz")
    assert "NO  files            changed: labels.txt" in done.stdout
    assert refusal(done, code=1).endswith("changed.tar.gz does not hold: files")
    assert "no such package" in refusal(picoquant("verify", tmp_path / "none"))
