"""Packages with a file by a vendor's own tool and no program: what is in them, what their README says."""

from __future__ import annotations

import json

import pytest

from picoquant.backends.base import MACHINE, load_backend
from picoquant.errors import ConfigError, ToolError
from picoquant.packaging.forms import forms_of, tools_of
from picoquant.packaging.package import Models, package
from picoquant.packaging.readme import readme
from picoquant.packaging.verify import verify
from picoquant.targets.profiles import load_target

TARGETS = {"cv181x": "tpu-mlir", "esp32p4": "esp-ppq"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cv181x", "## On CV181x\n\n`model.cvimodel` is for Sophgo's cviruntime"),
        ("esp32p4", "## On ESP32-P4\n\n`model.espdl` is for Espressif's ESP-DL (`dl::Model`). Its scales are powers"),
    ],
)  # fmt: skip
def test_the_readme_says_what_runs_it_and_that_nothing_did(name, said):
    target = load_target(name)
    text = readme(target, forms_of(target), True)
    assert said in text and "**It was not run on a board**" in text and "{form}" not in text
    assert "python/" not in text and "board/" not in text
    assert not target.on_npu and target.arithmetic is None
    assert "## On " not in readme(load_target("rk3588"), forms_of(load_target("rk3588")), True).replace(
        "## On the NPU", ""
    )


@pytest.mark.parametrize("name", TARGETS)
def test_without_the_tool_nothing_is_packaged(name, monkeypatch, tmp_path):
    backend = load_backend(TARGETS[name])
    monkeypatch.setattr("picoquant.backends.own_environment.package.tool_homes", lambda name: [])
    for variable in ("PICOQUANT_TPU_MLIR_PYTHON", "PICOQUANT_ESP_PPQ_PYTHON"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(
        ToolError, match=rf"^{backend.toolchain.TITLE} is not installed: run `picoquant toolchain"
    ):
        tools_of(forms_of(load_target(name)))


def test_a_profile_may_name_only_what_writes_files():
    with pytest.raises(
        ConfigError, match=r"no backend 'cv181x' writes files for packages; possible: .*tpu-mlir"
    ):
        from dataclasses import replace

        forms_of(replace(load_target("cv181x"), backends=("cv181x",)))


@pytest.mark.parametrize("name", TARGETS)
def test_with_the_tool_the_package_is_whole_and_its_simulator_finds_the_sample(name, models, tmp_path):
    backend = load_backend(TARGETS[name])
    try:
        backend.toolchain.find(MACHINE)
    except ToolError as error:
        pytest.skip(str(error))
    made = package(Models(models()), load_target(name), tmp_path)
    names = {path.name for path in backend.files_beside(made.folder / backend.file)}
    assert names < {path.name for path in made.folder.iterdir()} and "settings.json" not in made.files
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert manifest["versions"][backend.name]
    checks = {check.name: check for check in verify(made.folder).checks}
    assert checks[backend.check].holds is not None and checks["onnx"].holds
