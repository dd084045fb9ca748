"""`Package.compiled`: the absence of VeriSilicon's tool is said before anything runs."""

from __future__ import annotations

import pytest

from picoquant.errors import ToolError
from picoquant.stages.package import _compiler
from picoquant.stages.plan import load_plan
from picoquant.stages.stage import Context


def compiler(target, asked="true"):
    sets = [f"Package.target={target}", f"Package.compiled={asked}"]
    return _compiler(Context(load_plan("picodet_s_qat_dis", sets), None, "cpu"))


def test_it_is_said_to_be_absent(tmp_path, monkeypatch):
    monkeypatch.setattr("picoquant.backends.verisilicon.toolchain.tool_homes", lambda name: [tmp_path])
    with pytest.raises(ToolError, match=r"run `picoquant toolchain install verisilicon --accept-licence`"):
        compiler("a311d")
    assert compiler("rv1126") is None and compiler("a311d", "false") is None
