"""The page from made data: names are text, not markup; many classes; the same bytes each time."""

from __future__ import annotations

import html

import numpy as np
import pytest

from picoquant.backends.verisilicon.report import LayerCost
from picoquant.evaluation.confusion import Confusion, confusion, match_images
from picoquant.evaluation.precision_recall import precision_recall
from picoquant.npu.emulated.cycles import Cycles
from picoquant.npu.emulated.published_time import Time
from picoquant.report.contents import Board, Detections, Layers, Report, SizeRow, Training
from picoquant.report.page import render
from picoquant.report.run_record import size_rows, stage_rows, stale_evaluation

HOSTILE = "<script>alert(1)</script>"


def report_of(names, objects=None, **parts):
    """A page of one image with an object of each class, or of the first `objects`; FP32 finds all but the last."""
    objects = len(names) if objects is None else objects
    truth = {
        "images": [{"id": 1, "width": 100, "height": 100}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, 1)],
        "annotations": [
            {
                "id": n,
                "image_id": 1,
                "category_id": n,
                "bbox": [10.0 * n, 0.0, 9.0, 9.0],
                "iscrowd": 0,
                "area": 81.0,
            }
            for n in range(1, objects + 1)
        ],
    }
    found = [
        {"image_id": 1, "category_id": n, "bbox": [10.0 * n, 0.0, 9.0, 9.0], "score": 0.9}
        for n in range(1, objects)
    ]
    results = {"fp32": found, "int8": found[:-1]}
    detections = Detections(
        1,
        {name: precision_recall(truth, entries, [1]) for name, entries in results.items()},
        {
            name: confusion(truth, match_images(truth, entries, [1], 0.5, 0.5).values(), 0.5, 0.5)
            for name, entries in results.items()
        },
        no_pictures="none made",
    )
    keys = ("mAP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
    metrics = {"fp32": dict.fromkeys(keys, 0.5), "int8": {**dict.fromkeys(keys, 0.25), "APl": -1.0}}
    given = {"stages": stage_rows({}, ["train"]), "about": {}, "config": "a: 1", "detections": detections}
    return Report(**{"name": "run", "metrics": metrics, **given, **parts})


def hostile_report():
    step = {"step": 1.0, HOSTILE: 2.0}
    return report_of(
        [HOSTILE, "$x$ \\frac{", 'a" onload="alert(1)', "b"],
        name=HOSTILE,
        about={"command": HOSTILE, "recipe": HOSTILE, "versions": {HOSTILE: HOSTILE}, "platform": HOSTILE},
        config=f"x: {HOSTILE}",
        stages=stage_rows({HOSTILE: {"status": HOSTILE, "reason": HOSTILE, "command": HOSTILE}}, [HOSTILE]),
        warnings=[HOSTILE],
        sizes=[SizeRow(HOSTILE, HOSTILE, 1)],
        training=Training([step], [], [HOSTILE]),
        layers=Layers([1.0, 100.0], None),
        boards=[Board(HOSTILE, None, note=HOSTILE)],
        absent={"analysis": f"`{HOSTILE}` {HOSTILE}"},
    )


def test_names_are_text_wherever_they_stand():
    page = render(hostile_report())
    assert "<script" not in page and page.count(html.escape(HOSTILE)) >= 15
    assert "$x$ \\frac{" in page  # no formula


def test_cycles_stand_in_the_estimates_place():
    layers = [
        LayerCost("conv2d_1", {"NN": 1_500_000, "SH": 20_000}, 1, 2),
        LayerCost("", {"TP": 480_000}, 3, 4),
    ]
    time = Time(2.5, 800.0, {"mobilenet_v1_int8_224": 0.0137, "resnet50_int8_224": -0.45})
    check = {
        "operators": {"npu": 2, "cpu": 0}, "npu_pieces": 1, "partition_file": "", "conversions": [],
        "macs": {"npu": 1e6, "cpu": 0}, "activation_bytes": 10, "rules_broken": [], "cpu_operators": [],
        "cycles": Cycles("VIPX, emulator 6.57.1", layers, {"conv2d_1": "conv2d"}, False, "0", time).to_json(),
    }  # fmt: skip
    page = render(report_of(["a"], boards=[Board("a311d", check)]))
    assert "2.0 M an image: NN cores 1.5 M, TP 0.48 M, shaders 0.02 M" in page and "an estimate" not in page
    assert "2.5 ms, not measured: cycles at 800 MHz" in page
    assert "off by +1 % (mobilenet_v1_int8_224), -45 % (resnet50_int8_224)" in page
    row = "<td>1500000</td><td>0</td><td>20000</td><td>76.0 %</td>"
    assert f'<td class="text">conv2d_1</td><td class="text">conv2d</td>{row}' in page
    assert page.index("conv2d_1") < page.index("(of no layer)")


def test_a_browser_runs_none_of_it(browser, tmp_path):
    (tmp_path / "page.html").write_text(render(hostile_report()), encoding="utf-8")
    browser.look(390, 844)
    browser.open(tmp_path / "page.html")
    assert browser.complaints() == [] and len(browser.requests()) == 1
    assert browser.value("document.scripts.length") == 0
    assert browser.value("document.querySelectorAll('[onload]').length") == 0
    assert browser.value("document.querySelector('h1').textContent") == HOSTILE


def test_the_same_report_is_the_same_text():
    assert render(hostile_report()) == render(hostile_report())


def test_numbers_by_hand():
    page = render(report_of(["a", "b", "c"]))
    # FP32 finds a and b, INT8 a alone; c is missed by both
    assert "<tr><td>FP32</td><td>2</td><td>0</td><td>1</td><td>0</td></tr>" in page
    assert "<tr><td>INT8</td><td>1</td><td>0</td><td>2</td><td>0</td></tr>" in page
    assert '<td>b</td><td>1</td><td>1.0000</td><td>0.0000</td><td class="bad">−1.0000</td>' in page
    assert '<td>AP, large objects</td><td>0.5000</td><td>–</td><td class="">–</td>' in page
    assert 'class="bad">−0.2500</td>' in page
    assert page.count('<table class="matrix">') == 2


@pytest.mark.parametrize("classes", [20, 21, 80])
def test_many_classes(classes):
    page = render(report_of([f"class {number}" for number in range(classes)]))
    assert page.count('<table class="matrix">') == (2 if classes <= 20 else 0)
    missed = f'<td>class {classes - 2}</td><td class="text">nothing</td><td>0</td><td>1</td>'
    assert (missed in page) == (classes > 20)
    assert page.count(", IoU 0.5</figcaption>") == 1 + 9  # all, and the nine that changed most
    assert f">class {classes - 2}</text>" in page  # in the plot of APs


def test_the_table_has_the_classes_that_have_objects():
    page = render(report_of([f"class {number}" for number in range(80)], objects=35))
    for number in range(80):
        assert (f"<tr><td>class {number}</td><td>1</td>" in page) == (number < 35)
    plot = page[page.index('id="classes"') :].split("</svg>")[0]
    assert plot.count(">class ") == 30
    assert (
        "The 30 classes whose AP changed most; the table has all that have objects in these images, 35 of 80."
        in page
    )
    page = render(report_of([f"class {number}" for number in range(80)], objects=3))
    assert "3 of 80 classes have objects in these images." in page


def test_the_most_frequent_confusions_come_first():
    counts = np.zeros((22, 22), np.int64)
    counts[0, 1], counts[21, 3], counts[5, 5] = 4, 9, 100
    made = report_of([f"c{number}" for number in range(21)])
    names = made.detections.confusions["fp32"].classes
    both = {name: Confusion(names, counts, 0.5, 0.5) for name in ("fp32", "int8")}
    detections = Detections(1, made.detections.curves, both)
    page = render(report_of([f"c{number}" for number in range(21)], detections=detections))
    first = page.index('<td>nothing</td><td class="text">c3</td><td>9</td><td>9</td>')
    assert first < page.index('<td>c0</td><td class="text">c1</td><td>4</td><td>4</td>')
    assert '<td>c5</td><td class="text">c5</td>' not in page


def test_missed_objects_leave_room_for_confusions_of_classes():
    names = [f"c{number}" for number in range(30)]
    counts = np.zeros((31, 31), np.int64)
    counts[:30, 30] = np.arange(100, 130)
    counts[3, 4] = 1
    made = report_of(names)
    both = {name: Confusion(tuple(names), counts, 0.5, 0.5) for name in ("fp32", "int8")}
    page = render(report_of(names, detections=Detections(1, made.detections.curves, both)))
    assert '<td>c3</td><td class="text">c4</td><td>1</td><td>1</td>' in page
    assert page.count('<td class="text">nothing</td>') == 10


def test_rows_of_the_manifest():
    records = {
        "export": {
            "status": "done", "seconds": 1.0, "cpu_seconds": 1.5, "cpus": 2, "started": "2026-01-01T00:00:00+0000",
            "files": {"model.pdmodel": {"bytes": 10}, "model.pdiparams": {"bytes": 90, "sha256": "new"}},
        },
        "quantize": {"status": "failed", "error": "no", "seconds": 3.0},
        "evaluate": {"settings": {"models": {"fp32": {"params": "old"}}}},
        "package": {"files": {"t/model.nb": {"bytes": 5}, "t/labels.txt": {"bytes": 1}, "t.tar.gz": {"bytes": 7}}},
    }  # fmt: skip
    rows = stage_rows(records, ["train", "export", "quantize"])
    assert [(row.status, row.share, row.idle, row.note) for row in rows] == [
        ("not run", 0.0, None, ""), ("done", 0.25, 0.25, ""), ("failed", 0.75, None, "no"),
    ]  # fmt: skip
    assert [(row.name, row.bytes) for row in size_rows(records)] == [
        ("export/", 100), ("package/t/model.nb", 5), ("package/t.tar.gz", 7),
    ]  # fmt: skip
    assert stale_evaluation(records) == ["fp32"]
