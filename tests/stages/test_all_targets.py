"""`--target all` on real data: a package of the blood cell model for every target, each verified; minutes.

python -m pytest -m slow tests/stages/test_all_targets.py
"""

from __future__ import annotations

import json

import pytest

from picoquant.backends.base import load_backend
from picoquant.errors import ToolError
from picoquant.packaging.forms import forms_of, tools_of
from picoquant.targets.profile_files import known_targets
from picoquant.targets.profiles import load_target
from tests.command_line import picoquant, with_sets


def packaged(name):
    """Whether the tools of a target are here; `all` leaves out the others."""
    try:
        tools_of(forms_of(load_target(name)))
    except ToolError:
        return False
    return True


# Compilers whose files hold addresses or dates of the process that wrote them; and what the files' hash is written to.
NOT_REPEATED = {"rknn", "tpu-mlir"}
HOLD_ITS_HASH = {"manifest.json", "settings.json", "model.onnx"}

TARGETS = [name for name in known_targets() if packaged(name)]


@pytest.fixture(scope="module")
def packages(shared, opt, tmp_path_factory):
    """The folders of two packagings of one run, PTQ at 416 px."""
    out = tmp_path_factory.mktemp("run")
    sets = [
        f"Global.weights={shared}/weights/picodet_s_npu_bccd.pdparams",
        "Global.Evaluation=false",
        "Quantize.method=ptq",
        "TrainConfig.eval_iter=2",
        "EvalReader.batch_size=2",
        "worker_num=0",
    ]
    for section, name in (("TrainDataset", "train"), ("EvalDataset", "val")):
        sets += [
            f"{section}.dataset_dir={shared}/datasets/bccd",
            f"{section}.image_dir=JPEGImages",
            f"{section}.anno_path=instances_{name}.json",
            f"{section}.sample_num=24",
        ]
    arguments = ("-c", "picodet_s_qat_dis.yaml", "--save-dir", out, "--until", "quantize")
    done = picoquant("run", *arguments, *with_sets(sets), timeout=1800)
    assert done.returncode == 0, done.stderr
    folders = []
    for name in ("first", "second"):
        done = picoquant("package", "--save-dir", out, "--target", "all", "--opt", opt.path, timeout=1800)
        assert done.returncode == 0, done.stderr
        folders.append((out / "package").rename(out / name))
    return folders


@pytest.mark.slow
def test_every_target_has_one(packages):
    for folder in packages:
        names = {path.name for path in folder.iterdir()}
        assert names >= {*TARGETS, *(f"{name}.tar.gz" for name in TARGETS)}


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_package_is_verified_and_the_second_is_the_same(target, packages, opt):
    first, second = packages
    folder, again = first / target, second / target
    backends = tools_of(forms_of(load_target(target)))[0]
    if NOT_REPEATED.isdisjoint(backends):
        assert (first / f"{target}.tar.gz").read_bytes() == (second / f"{target}.tar.gz").read_bytes()
    else:
        compiled = {load_backend(name).file for name in backends} | HOLD_ITS_HASH
        files = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
        assert files == {path.relative_to(again) for path in again.rglob("*") if path.is_file()}
        others = [path for path in files if path.name not in compiled]
        assert len(others) > len(files) // 2
        assert [path for path in others if (folder / path).read_bytes() != (again / path).read_bytes()] == []
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["warnings"] == []
    assert (folder / "model_int8.onnx").stat().st_size < 1_620_000
    profile = load_target(target)
    if profile.paddle_lite is not None:
        assert (folder / "model.nb").stat().st_size < 1_700_000
    if profile.paddle_lite is not None or profile.ethos_u is not None:
        assert manifest["check"]["rules_broken"] == []
    for backend in backends:
        assert (folder / load_backend(backend).file).is_file()
    if profile.on_npu:
        assert (manifest["check"]["npu_pieces"], manifest["check"]["cpu_operators"]) == (1, [])
    done = picoquant("verify", first / f"{target}.tar.gz", "--opt", opt.path, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    checks = json.loads(done.stdout)["checks"]
    tried = {"files", "paddle", "onnx", "paddle_lite_x86"}
    assert {name for name, check in checks.items() if check["holds"]} >= tried
    assert all(check["holds"] is not False for check in checks.values())
    assert "detections as expected" in checks["onnx"]["said"][0]
    assert manifest["sample"]["expected"]["expected.json"] > 0
