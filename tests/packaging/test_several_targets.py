"""Packages of several targets share what is made of one model, and are what each would be alone."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from picoquant.backends.paddle_lite.opt_tool import OptTool
from picoquant.backends.paddle_lite.remembered import RememberedOpt
from picoquant.errors import ToolError
from picoquant.packaging import prepared as prepared_module
from picoquant.packaging.package import Models, begin, package
from picoquant.packaging.prepared import Prepared
from picoquant.packaging.sample import SampleImage
from picoquant.targets.profiles import load_target
from tests.packaging.board import blocks
from tests.packaging.contents import FACTS, content


def test_targets_share_what_is_converted_and_get_what_each_would_alone(made, small, tmp_path):
    prepared = Prepared(Models(small))
    first = package(Models(small), load_target("generic_onnx"), tmp_path, prepared=prepared)
    kept = prepared.int8_onnx
    assert (first.folder / "model_int8.onnx").read_bytes() == (made.folder / "model_int8.onnx").read_bytes()
    other = package(Models(small), load_target("generic_onnx"), tmp_path / "other", prepared=prepared)
    assert prepared.int8_onnx is kept  # converted once
    assert content(other.folder) == content(first.folder)  # and not changed by who used it


def test_several_targets_ask_each_tool_once_and_get_the_same_bytes(made, small, opt, tmp_path, monkeypatch):
    """opt, the trial on the sample and the comparison with ONNX Runtime: of one content once in a run."""
    sample, names = blocks(), ("rv1126", "rv1109", "arm_cpu")
    alone = {
        name: package(Models(small), load_target(name), tmp_path / "alone", opt, FACTS, sample)
        for name in names
    }
    asked = Counter()

    def counting(module, name):
        real = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *given, **named: (asked.update([name]), real(*given, **named))[1]
        )

    for module, name in (
        (prepared_module, "expected_detections"),
        (prepared_module, "compare"),
        (OptTool, "run"),
    ):
        counting(module, name)
    shared, tool = Prepared(Models(small)), RememberedOpt.of(opt)
    ends = [
        begin(Models(small), load_target(name), tmp_path / "shared", tool, FACTS, sample, prepared=shared)
        for name in names
    ]
    assert not (tmp_path / "shared" / "rv1126").exists()  # until its archive is there, too
    assert asked == {
        "expected_detections": 1,
        "compare": 1,
        "run": 4,
    }  # a report and a .nb; for the CPU others
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda end: end(), ends))
    for name, package_of_it in zip(names, together):
        assert content(package_of_it.folder) == content(alone[name].folder)
        assert package_of_it.archive.read_bytes() == alone[name].archive.read_bytes()
        assert package_of_it == replace(
            alone[name], folder=package_of_it.folder, archive=package_of_it.archive
        )


def test_another_sample_is_tried_anew(small, tmp_path):
    shared = Prepared(Models(small))
    one, other = blocks(), SampleImage(blocks().image[:, ::-1].copy(), "turned")
    for name, sample in (("one", one), ("other", other)):
        package(Models(small), load_target("generic_onnx"), tmp_path / name, sample=sample, prepared=shared)
    found = [
        json.loads((tmp_path / name / "generic_onnx" / "sample" / "expected.json").read_text())["detections"]
        for name in ("one", "other")
    ]
    assert found[0] != found[1]


def test_what_opt_refused_is_asked_again(small, opt, tmp_path, monkeypatch):
    tool, asked, real = RememberedOpt.of(opt), [], OptTool.run
    monkeypatch.setattr(OptTool, "run", lambda *given, **named: (asked.append(1), real(*given, **named))[1])
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"no program")
    for _ in range(2):
        with pytest.raises(ToolError):
            tool.run(wrong, small.params, tmp_path / "made.nb", "arm")
    assert len(asked) == 2
