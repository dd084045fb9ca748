"""`picoquant report` on a real run: what is on the page, in a browser too, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from types import SimpleNamespace

import pytest

from picoquant.backends.verisilicon.report import LayerCost
from picoquant.commands.report import _cycles
from picoquant.errors import UserError
from picoquant.npu.emulated.cycles import Cycles
from picoquant.storage.files import sha256
from picoquant.storage.run_folder import RunFolder
from tests.command_line import picoquant, refusal


@pytest.fixture(scope="module")
def run_dir(evaluated_run, tmp_path_factory):
    """A run with its report; the threshold is low, for its training was short."""
    folder = shutil.copytree(evaluated_run, tmp_path_factory.mktemp("run") / "cells & co")
    done = picoquant("report", "--save-dir", folder, "--threshold", 0.02, "--images", 2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(folder / "report.html")
    return folder


@pytest.fixture(scope="module")
def page(run_dir):
    return (run_dir / "report.html").read_text(encoding="utf-8")


def test_the_page_holds_the_runs_numbers(run_dir, page):
    stages = json.loads((run_dir / "run.json").read_text())["stages"]
    for metrics in stages["evaluate"]["metrics"].values():
        assert f"<b>{metrics['mAP']:.4f}</b>" in page
    assert "<h1>cells &amp; co</h1>" in page
    assert page.count("<image ") == 2 and page.count('href="#image-') == 2  # worst: none lost; typical: two
    for name in ("pr-mean-50", "pr-mean-75", "class-ap", "training-loss", "qat-loss", "ranges"):
        assert f'id="{name}-' in page, name
    assert "picoquant analyze --save-dir" in page and "picoquant benchmark --save-dir" in page
    assert "&lt;" not in page.split("<style>")[0]
    assert stages["train"]["command"].startswith("picoquant run -c quickstart")
    assert stages["train"]["command"] in page.replace("&#39;", "'")


def test_it_asks_for_nothing_outside_itself(page):
    for value in re.findall(r"""(?:src|href|action|data|poster|srcset)\s*=\s*["']([^"']*)""", page):
        assert value.startswith(("#", "data:")), value
    assert "<script" not in page and "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_the_same_run_gives_the_same_bytes(run_dir, page, tmp_path):
    done = picoquant(
        "report", "--save-dir", run_dir, "--threshold", 0.02, "--images", 2, "--out", tmp_path / "again.html",
        PYTHONHASHSEED="7",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it(run_dir, browser, width, dark):
    browser.look(width, 844, dark)
    browser.open(run_dir / "report.html")
    assert browser.requests() == [(run_dir / "report.html").as_uri()]
    assert browser.complaints() == []
    assert browser.value("document.documentElement.scrollWidth") == width  # nothing sticks out
    ink = browser.value("getComputedStyle(document.querySelector('figure svg text')).fill")
    paper = browser.value("getComputedStyle(document.body).backgroundColor")
    assert (ink, paper) == (
        ("rgb(230, 232, 234)", "rgb(20, 23, 26)") if dark else ("rgb(27, 31, 36)", "rgb(255, 255, 255)")
    )
    smallest = """Math.min(...[...document.querySelectorAll('figure svg text')].map(text => {
            const place = text.getScreenCTM();
            return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(place.a, place.b);
        }))"""
    assert browser.value(smallest) > 10  # pixels
    assert browser.value("[...document.querySelectorAll('image')].every(i => i.getBBox().width > 0)")


def test_it_prints(run_dir, browser, tmp_path):
    browser.look(1280, 844, dark=True)
    browser.open(run_dir / "report.html")
    browser.print(tmp_path / "report.pdf")
    data = (tmp_path / "report.pdf").read_bytes()
    assert data.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", data)) >= 3
    browser.ask("Emulation.setEmulatedMedia", media="print")
    assert browser.value("getComputedStyle(document.querySelector('nav')).display") == "none"


def test_what_it_refuses(evaluated_run, tmp_path):
    def said(folder):
        return refusal(picoquant("report", "--save-dir", folder))

    assert "no run in" in said(tmp_path / "nowhere") and not (tmp_path / "nowhere").exists()
    run = shutil.copytree(evaluated_run, tmp_path / "run")
    whole = (run / "run.json").read_text()

    cut = run / "evaluate/detections_int8.json"
    detections = cut.read_text()
    cut.write_text(detections[:-40])
    assert "evaluate is not as the run left it" in said(run) and "picoquant eval" in said(run)
    cut.write_text("[1" + " " * (len(detections) - 3) + "]")
    assert "detections_int8.json is damaged" in said(run)

    manifest = json.loads(whole)
    manifest["stages"] = {"train": manifest["stages"]["train"]}
    (run / "run.json").write_text(json.dumps(manifest))
    assert "no exported model yet" in said(run)
    for text in (whole[:-200], '{"stages": {"train": 3}}', '{"stages": [1]}', "[]"):
        (run / "run.json").write_text(text)
        assert "run.json is damaged" in said(run)
    assert not (run / "report.html").exists()


def test_parts_without_data_say_what_makes_them(evaluated_run, tmp_path):
    """Images gone, no INT8 model, no curves, no evaluation: the rest is shown."""
    run = shutil.copytree(evaluated_run, tmp_path / "run")
    manifest = json.loads((run / "run.json").read_text())
    for stage in ("train", "quantize"):
        del manifest["stages"][stage]
        shutil.rmtree(run / stage)
    del manifest["stages"]["evaluate"]["metrics"]["int8"]
    (run / "run.json").write_text(json.dumps(manifest))
    sets = ["--set", "Synthetic=null", "--set", "EvalDataset.dataset_dir=/gone"]
    done = picoquant("report", "--save-dir", run, *sets)
    assert done.returncode == 0, done.stderr
    page = (run / "report.html").read_text()
    assert "/gone" in page and "FP32 mAP" in page and "INT8 mAP" not in page
    for command in ("train", "quantize", "eval"):
        assert f"<code>picoquant {command} --save-dir {run}</code>" in page, command


def test_a_run_ends_with_its_report_or_says_how_to_get_it(evaluated_run, tmp_path):
    run = shutil.copytree(evaluated_run, tmp_path / "run")
    again = ["run", "-c", run / "config.yml", "--save-dir", run, "--until", "evaluate"]
    done = picoquant(*again)
    assert done.returncode == 0, done.stderr
    assert f"    picoquant report --save-dir {run}" in done.stderr.splitlines()
    assert not (run / "report.html").exists()
    done = picoquant(*again, "--report")
    assert done.returncode == 0, done.stderr
    assert f"look: the whole run on one page is {run / 'report.html'}" in done.stderr.splitlines()
    assert "picoquant report" not in done.stderr
    assert (run / "report.html").is_file()


def test_cycles_are_those_of_the_runs_model(tmp_path):
    """`check --emulator` leaves them beside the run; those of another model are not shown."""
    model, run, warnings = tmp_path / "model.pdiparams", RunFolder(tmp_path / "run"), []
    model.write_bytes(b"weights")
    folder = SimpleNamespace(params=model)
    assert _cycles(run, "a311d", folder, warnings) is None
    path = run.root / "check" / "a311d.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"target": "a311d", "latency_estimate_ms": 1}')
    assert _cycles(run, "a311d", folder, warnings) is None and not warnings
    measured = Cycles("VIPX", [LayerCost("a", {"NN": 5}, 1, 2)], {"a": "conv2d"}, False, sha256(model))
    path.write_text(json.dumps({"target": "a311d", "cycles": measured.to_json()}))
    assert _cycles(run, "a311d", folder, warnings).of_tensors == {"a": {"NN": 5}} and not warnings
    model.write_bytes(b"others")
    assert _cycles(run, "a311d", folder, warnings) is None
    assert warnings == ["check/a311d.json has cycles of another model: `picoquant check --emulator` again."]
    path.write_text('{"target": "a311d", "cycles": {"chip": "x"}}')
    with pytest.raises(UserError, match=r"a311d.json is damaged \(cycles\)"):
        _cycles(run, "a311d", folder, warnings)
