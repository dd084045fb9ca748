"""A COCO file read in parts, by several processes, says what the whole one says, or is left to the whole reading."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest

from picoquant.data.formats.large import columns, parts
from picoquant.data.formats.large.headers import header_sizes
from picoquant.data.formats.large.outlines import without_outlines
from picoquant.utils.helpers import helpers
from picoquant.utils.subprocesses import Outcome
from picoquant.utils.worker import WorkerEnded


def content(seed=0, images=9, objects=40):
    random = np.random.default_rng(seed)
    numbers = random.permutation(100)[:images].tolist()
    listed = []
    for number in range(objects):
        x, y, w, h = random.integers(1, 90, 4).tolist()
        entry = {
            "id": number,
            "image_id": int(random.choice(numbers)),
            "category_id": int(random.integers(3)),
        }
        entry |= {"bbox": [x + 0.25, y, w, h], "segmentation": [[x, y, x + w, 1e-3 * y], [x, y]]}
        entry |= {} if random.random() < 0.3 else {"area": w * h / 2}
        entry |= (
            {"iscrowd": 1, "segmentation": {"counts": [1, 2], "size": [3, 4]}}
            if random.random() < 0.2
            else {}
        )
        listed.append(entry | ({"ignore": 1} if random.random() < 0.2 else {}))
    return {
        "info": {
            "lists": [{"a": 1}, {"b": [{}, {}]}],
            "text": '{"id": 1}, {"id": 2}, \\ "segmentation": [1]',
        },
        "images": [
            {"id": n, "file_name": f"}},{{ {n} é.png", "width": 40 + n, "height": 30.5} for n in numbers
        ],
        "annotations": listed,
        "categories": [{"id": n, "name": f"class {n}"} for n in range(3)],
    }


def as_lists(file):
    made = {name: list(value) for name, value in vars(file.objects).items()}
    return repr((made, {name: list(value) for name, value in vars(file.images).items()}, file.categories))


def of_whole(document):
    images, objects = columns.images_of(document["images"]), columns.objects_of(document["annotations"])
    return as_lists(parts.PlainFile(images, objects, document["categories"]))


class Alone:
    """No helpers, and what was read."""

    def share(self, function, items, seconds):
        self.found = function(items)
        return self.found


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("indent", [None, 1])
def test_whatever_the_parts_are_what_is_read_is_the_same(tmp_path, monkeypatch, order, indent):
    document = content()
    document = dict(list(document.items())[::order])
    path, pure, wholes = tmp_path / "a.json", 0, 0
    path.write_text(json.dumps(document, indent=indent, ensure_ascii=False), encoding="utf-8")
    monkeypatch.setattr(parts, "_NEAR", 400)
    for size in (90, 150, 333, 700, 1500, 4000, 1 << 20):
        monkeypatch.setattr(parts, "_PART", size)
        alone = Alone()
        found = parts.read_in_parts(path, alone)
        if found is None:  # cut within a text or a list of something else
            wholes += 1
            continue
        assert as_lists(found) == of_whole(document)
        pure += sum(not isinstance(part, bytes) for part in alone.found)
    assert pure > 5 and wholes < 5


def change(**changes):
    return lambda document: document["annotations"][25].update(**changes)


@pytest.mark.parametrize(
    "unusual",
    [
        change(image_id=1000),
        change(image_id="3"),
        change(category_id=7),
        change(category_id=1.0),
        change(category_id=2**64),
        change(bbox=[1, 2, 3]),
        change(bbox=[]),
        change(bbox=[1, 2, 3, float("nan")]),
        change(bbox=[1, 2, 3, "4"]),
        change(area="12"),
        change(iscrowd=2),
        change(iscrowd=True),
        change(ignore="0"),
        lambda document: document["annotations"].insert(25, None),
        lambda document: document["annotations"].insert(25, [1]),
        lambda document: document["annotations"].clear(),
        lambda document: document["images"].clear(),
        lambda document: document["images"][4].update(id=document["images"][5]["id"]),
        lambda document: document["images"][4].update(width=0),
        lambda document: document["images"][4].update(height=float("nan")),
        lambda document: document["images"][4].update(file_name=5),
        lambda document: document["images"][4].pop("file_name"),
        lambda document: document["images"].insert(4, None),
        lambda document: document["categories"][1].update(id="1"),
        lambda document: document["categories"][1].update(id=0),
        lambda document: document["categories"].insert(1, None),
        lambda document: document.pop("categories"),
        lambda document: document.update(annotations={}),
        lambda document: document["info"].update(annotations=[1]),
    ],
)
@pytest.mark.parametrize("size", [600, 1 << 20])
def test_a_file_with_anything_unusual_is_left_to_the_whole_reading(tmp_path, monkeypatch, unusual, size):
    monkeypatch.setattr(parts, "_PART", size)
    monkeypatch.setattr(parts, "_NEAR", 400)
    document, path = content(), tmp_path / "a.json"
    document.pop("info")
    document = {"info": {}, **document}
    path.write_text(json.dumps(document))
    assert as_lists(parts.read_in_parts(path, Alone())) == of_whole(document)
    unusual(document)
    path.write_text(json.dumps(document))
    assert parts.read_in_parts(path, Alone()) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"images": [}', '{"a": 1}, {"\\u0000part": 0}'])
def test_what_is_no_coco_is_left_to_the_whole_reading(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    assert parts.read_in_parts(path, Alone()) is None
    assert parts.read_in_parts(tmp_path / "none.json", Alone()) is None


def test_a_mark_in_the_file_itself_stands_for_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "_PART", 600)
    monkeypatch.setattr(parts, "_NEAR", 400)
    document, path = {**content(), "info": {}}, tmp_path / "a.json"
    document["annotations"][0] = {"\0part": 3}
    path.write_text(json.dumps(document))
    assert parts.read_in_parts(path, Alone()) is None


def test_half_an_entry_cut_by_a_text_is_no_entry(tmp_path, monkeypatch):
    """A text that reads as the end of an entry and the begin of others, cut there."""
    inside = '{"image_id": 1}, {"image_id": 2}'
    text = json.dumps({**content(), "info": {"text": 100 * inside}})
    path = tmp_path / "a.json"
    path.write_text(text)
    monkeypatch.setattr(parts, "_NEAR", 400)
    for size in range(100, 2000, 37):
        monkeypatch.setattr(parts, "_PART", size)
        found = parts.read_in_parts(path, Alone())
        assert found is None or as_lists(found) == of_whole(json.loads(text))


@pytest.mark.parametrize(
    "text",
    [
        b'{"segmentation": [[1, 2.5], [3]], "id": 1}',
        b'{"id": 1, "segmentation": [[1, 2.5], [3]]}, {"segmentation":[], "b": [1]}',
        b'{"a": [{"segmentation": [1, 2]}], "b": [1]}',
        b'{"segmentation": ["1", [2]], "b": [3]}',
        b'{"segmentation": {"counts": [1, 2], "size": [3]}, "b": [3]}',
        b'{"segmentation": 5, "b": "\\"segmentation\\": [1, 2], "}',
    ],
)
def test_cutting_outlines_out_changes_nothing_else(text):
    def without(value):
        if isinstance(value, dict):
            return {key: without(each) for key, each in value.items() if key != "segmentation"}
        return list(map(without, value)) if isinstance(value, list) else value

    before, after = (json.loads(b"[" + each + b"]") for each in (text, without_outlines(text)))
    assert without(before) == without(after)


def test_a_text_without_outlines_is_the_same_whatever_the_parts(tmp_path, monkeypatch):
    document = content() | {"info": {"text": 60 * '{"a": 1} ,\t{"b": "}, {"}'}}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    whole = without_outlines(path.read_bytes())
    assert len(whole) < len(path.read_bytes()) - 500
    for size in (90, 333, 1500):
        monkeypatch.setattr(parts, "_PART", size)
        assert parts.text_without_outlines(path) == whole


def test_outlines_of_something_else_are_no_json_when_they_are_cut():
    """So the whole file is read as it is."""
    with pytest.raises(ValueError):
        json.loads(without_outlines(b'{"segmentation" : [[1], {"a": [3]}], "id": [1, 2]}'))


def test_helpers_give_what_one_process_gives(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "_PART", 400)
    monkeypatch.setattr(parts, "_NEAR", 400)
    monkeypatch.setattr(helpers, "_START", 0.0)
    monkeypatch.setattr(helpers, "available_cpus", lambda: 2)
    document, path = {**content(3, 9, 90), "info": {}}, tmp_path / "a.json"
    path.write_text(json.dumps(document))
    with helpers.Helpers() as two:
        assert as_lists(parts.read_in_parts(path, two)) == of_whole(document)
        assert [worker.started for worker in two._workers] == [True]
        assert two.share(header_sizes, [str(path)] * 7, 1.0) == [None] * 7
        two._workers[0]._process.kill()
        assert as_lists(parts.read_in_parts(path, two)) == of_whole(document)


def test_a_process_is_started_for_much_work_only(monkeypatch):
    monkeypatch.setattr(helpers, "available_cpus", lambda: 3)
    asked = []

    class Noted:
        started = False

        def ask(self, question):
            asked.append(question[1])
            raise WorkerEnded(Outcome(1, ""))

        def close(self):
            self.started = None

    with helpers.Helpers() as three:
        three._workers = [Noted(), Noted()]
        assert three.share(list, range(100), 0.2) == list(range(100)) and asked == []
        assert three.share(list, range(100), 1.0) == list(range(100))
    assert [worker.started for worker in three._workers] == [None, None]
    assert sorted(map(len, asked)) == [25, 25]  # 0.25 s of a second's work, as each starts for 0.25 s


def test_neither_text_nor_entries_are_all_in_memory(tmp_path, monkeypatch):
    """Columns of 20,000 objects take 2 MB; text and entries were some 40."""
    monkeypatch.setattr(parts, "_PART", 1 << 17)
    entry = {
        "image_id": 1,
        "category_id": 1,
        "bbox": [1, 2, 3, 4],
        "area": 5.5,
        "segmentation": [[1.25] * 150],
    }
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
        "annotations": [{"id": number, **entry} for number in range(20000)],
        "categories": [{"id": 1, "name": "a"}],
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))
    del document
    tracemalloc.start()
    try:
        found = parts.read_in_parts(path, Alone())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found.objects.ids) == 20000 and path.stat().st_size > 20e6 and peak < 6e6
