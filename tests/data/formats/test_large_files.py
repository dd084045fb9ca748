"""What large data sets are read quickly by changes nothing of what is read, nor of what is refused."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from picoquant.data.class_names import in_order
from picoquant.data.dataset import Dataset, PackedRecords, Record
from picoquant.data.formats import coco, coco_entries
from picoquant.data.formats.load import load_dataset
from picoquant.data.inspection.statistics import NetworkInput, statistics
from picoquant.data.settings import DatasetSettings
from picoquant.errors import DataError

IMAGES, CLASSES = 12, 4


def content(seed=0):
    """Images of 40 x 30 pixels that are not there, with and without objects; crowds, marks, an outline of a crowd."""
    random, objects = np.random.default_rng(seed), []
    for image in range(IMAGES):
        for _ in range(int(random.integers(0, 5))):
            x, y, w, h = (random.random(4) * (25, 18, 12, 10) + 1).round(2).tolist()
            entry = {
                "id": len(objects),
                "image_id": 3 * image,
                "category_id": 10 + int(random.integers(CLASSES)),
            }
            entry |= {"bbox": [x, y, w, h], "area": w * h, "segmentation": [[x, y, x + w, y, x, y + h]]}
            if random.random() < 0.3:
                entry |= {"iscrowd": 1, "segmentation": {"counts": [1, 2, 3], "size": [30, 40]}}
            objects.append(entry | ({"ignore": 1} if random.random() < 0.2 else {}))
    return {
        "images": [{"id": 3 * n, "file_name": f"{n}.png", "width": 40, "height": 30} for n in range(IMAGES)],
        "annotations": objects,
        "categories": [{"id": 10 + n, "name": f"class {n}"} for n in range(CLASSES)],
    }


@pytest.fixture
def read(tmp_path):
    """A file's data set, to train or to evaluate on."""
    import cv2

    for number in range(IMAGES):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((30, 40, 3), np.uint8))

    def made(document, training=True):
        (tmp_path / "instances.json").write_text(json.dumps(document), encoding="utf-8")
        settings = DatasetSettings(dataset_dir=str(tmp_path), image_dir="", anno_path="instances.json")
        return load_dataset(settings, training)

    return made


def as_lists(dataset):
    columns = dataset.annotations and [column.tolist() for column in vars(dataset.annotations).values()]
    return [
        (r.image_id, r.path, r.width, r.height, r.boxes.tolist(), r.classes.tolist(), r.is_crowd.tolist())
        for r in dataset.records
    ], columns, dataset.repairs, dataset.class_names  # fmt: skip


@pytest.mark.parametrize("training", [True, False])
def test_looked_at_all_at_once_or_one_by_one_is_the_same(read, training, monkeypatch):
    document = content()
    at_once = as_lists(read(document, training))
    monkeypatch.setattr(coco, "read_in_parts", lambda *given: None)
    monkeypatch.setattr(coco_entries, "images_of", lambda *given: None)
    monkeypatch.setattr(coco_entries, "boxes_and_areas", lambda *given: None)
    assert as_lists(read(document, training)) == at_once
    assert len(at_once[0]) > 5 and any(any(crowds) for *_, crowds in at_once[0])


def test_one_by_one_is_for_files_with_something_unusual(read, monkeypatch):
    looked, find = [], coco_entries._find
    monkeypatch.setattr(coco_entries, "_find", lambda *given: looked.append(1) or find(*given))
    document = content()
    plain = as_lists(read(document))
    assert looked == []
    document["annotations"][0]["iscrowd"] = "1" if document["annotations"][0].get("iscrowd") else "0"
    assert as_lists(read(document)) == plain
    assert len(looked) == 2 * len(document["annotations"])


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda d: d["annotations"][3].update(category_id=99), "category_id 99"),
        (lambda d: d["annotations"][3].update(iscrowd=2), "iscrowd 2; it must be 0 or 1"),
        (lambda d: d["annotations"].__setitem__(3, 7), "annotations holds '7'"),
        (lambda d: d["annotations"][3].pop("image_id"), "has no image_id"),
        (lambda d: d["annotations"][3].update(bbox=[1, 2, 3]), r"bbox \[1, 2, 3\]"),
        (lambda d: d["images"][3].update(width=0), r"width and height \(0, 30\)"),
        (lambda d: d["images"][3].update(height=float("nan")), r"width and height \(40, nan\)"),
        (lambda d: d["images"][3].update(width=2e9), "width and height"),
        (lambda d: d["images"][3].update(id=0), "an id that is not its own"),
        (lambda d: d["images"][3].update(id=True), "true or false"),
        (lambda d: d["images"][3].update(file_name="a\0b"), "file_name"),
    ],
)
def test_one_wrong_entry_among_many_is_named(read, change, said):
    document = content()
    change(document)
    with pytest.raises(DataError, match=said):
        read(document)


def test_records_go_to_other_processes_as_a_few_arrays(read):
    dataset = read(content())
    sent = pickle.loads(pickle.dumps(dataset))
    assert isinstance(sent.records, PackedRecords) and as_lists(sent) == as_lists(dataset)
    for one, other in zip(sent.records, dataset.records):
        assert [one.boxes.dtype, one.classes.dtype, one.is_crowd.dtype] == [
            other.boxes.dtype, other.classes.dtype, other.is_crowd.dtype,
        ]  # fmt: skip
    assert sent.records[-1].path == dataset.records[-1].path
    assert [r.image_id for r in sent.records[1:3]] == [r.image_id for r in dataset.records[1:3]]
    with pytest.raises(IndexError):
        sent.records[len(dataset)]
    assert as_lists(pickle.loads(pickle.dumps(sent))) == as_lists(dataset)
    assert len(pickle.loads(pickle.dumps(Dataset((), (), ()))).records) == 0


def test_arrays_of_records_and_records_alone_say_the_same(read):
    """Records come as arrays; from elsewhere each may be by itself."""
    network = NetworkInput(64, 64, False, 8)
    dataset = read(content())
    alone = replace(dataset, records=tuple(dataset.records))
    assert isinstance(dataset.records, PackedRecords)
    assert as_lists(dataset) == as_lists(alone)
    assert list(dataset.paths) == alone.paths and dataset.image_ids == alone.image_ids
    assert dataset.num_boxes == alone.num_boxes > 10
    assert statistics(dataset, network) == statistics(alone, network)
    for names in (dataset.class_names[::-1], (dataset.class_names[2], "another")):
        assert as_lists(in_order(dataset, names)) == as_lists(in_order(alone, names))
    places = np.array([4, 0, 2])
    assert as_lists(replace(dataset, records=dataset.records.at(places))) == as_lists(
        replace(alone, records=tuple(alone.records[place] for place in places))
    )
    crowds = [bool(record.is_crowd.any()) for record in alone.records]
    assert dataset.records.have(dataset.records.is_crowd).tolist() == crowds and 0 < sum(crowds) < len(crowds)


def test_what_is_sent_grows_with_the_objects_and_little_with_the_images():
    """An array of its own for each image took 700 bytes and more."""
    nothing = (np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, bool))
    records = tuple(Record(n, f"{n:06d}.jpg", 640, 480, *nothing) for n in range(2000))
    size = len(pickle.dumps(Dataset(records, (), ()), protocol=pickle.HIGHEST_PROTOCOL))
    assert size < 60 * len(records)


def test_paths_are_those_of_each_name_alone(tmp_path):
    from picoquant.data.formats.files import find_files

    for name in ("a.png", "b b.png", "ü.png"):
        (tmp_path / name).write_bytes(b"")
    names = ["a.png", "b b.png", "ü.png"]
    alone = [
        find_files(tmp_path, [name, "missing/x.png"]) for name in names
    ]  # the second is looked for by parts
    together = find_files(tmp_path, names)
    assert together.paths == [found.paths[0] for found in alone]
    assert not together.missing and not together.renamed
    twice = find_files(tmp_path, ["a.png", "a.png"])
    assert twice.paths == [str(tmp_path / "a.png")] * 2
