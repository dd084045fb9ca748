"""`picoquant data check`: real data with known numbers, and data sets broken in every way."""

from __future__ import annotations

import json
import os
import shutil

import pytest

KEYS = {
    "annotations", "format", "read", "images", "without_boxes", "boxes", "crowds", "classes", "sizes", "smallest",
    "median", "largest", "too_small", "too_small_example", "repeated", "repeated_example", "missing_images",
    "unreadable_images", "repaired", "notes",
}  # fmt: skip


def found(done):
    return json.loads(done.out)


def refused(done, *texts):
    """The only line on stderr, of a check that found something that stops a training."""
    assert done.code == 2
    line = done.err.strip().splitlines()[-1]
    assert line.startswith("picoquant: error: ")
    for text in texts:
        assert text in line
    return line


def test_bccd(shared, picoquant):
    done = picoquant("check", shared / "datasets/bccd", "--input-size", 320, "--json")
    assert (done.code, done.err.count("\n")) == (0, 1) and "holds VOC" in done.err
    result = found(done)
    assert result["input"] == {"height": 320, "width": 320, "keep_ratio": False, "smallest_stride": 8}
    train, val = result["data_sets"]["train"], result["data_sets"]["val"]
    assert set(train) == set(val) == KEYS
    assert [(part["images"], part["boxes"]) for part in (train, val)] == [(205, 2804), (87, 1137)]
    assert train["classes"] == [
        {"name": "RBC", "boxes": 2381, "images": 197},
        {"name": "WBC", "boxes": 214, "images": 204},
        {"name": "Platelets", "boxes": 209, "images": 117},
    ]
    assert sum(part["boxes"] for part in train["sizes"]) == 2804
    assert (result["leaks"]["groups"], result["equal_images"]["groups"]) == (0, 0)
    assert (result["errors"], result["warnings"], result["ok"]) == ([], [], True)


def test_bccds_sizes_are_those_of_its_file(shared, picoquant):
    """The largest and smallest longer side, computed from the JSON itself; all images are 640x480."""
    folder = shared / "datasets/bccd"
    result = found(picoquant("check", folder / "instances_val.json", "--input-size", "480,640", "--json"))
    content = json.loads((folder / "instances_val.json").read_text())
    longer = sorted(max(box[2], box[3]) for box in (entry["bbox"] for entry in content["annotations"]))
    val = result["data_sets"]["val"]
    assert list(result["data_sets"]) == ["val"]
    assert (val["smallest"], val["median"], val["largest"]) == (
        longer[0],
        longer[len(longer) // 2],
        longer[-1],
    )


def test_tiny_coco_has_boxes_that_are_too_small(shared, picoquant):
    result = found(picoquant("check", shared / "datasets/tiny_coco", "--json"))
    train, val = result["data_sets"]["train"], result["data_sets"]["val"]
    assert (train["too_small"], val["too_small"]) == (12, 15)
    assert train["too_small_example"].startswith(
        "bowl [48.78, 217.36, 60.58, 225.23] of image 000000005802.jpg"
    )
    assert any("no box of 31 classes, not learnt: airplane" in line for line in result["warnings"])


def test_the_table_has_train_and_val_side_by_side(shared, picoquant):
    done = picoquant("check", shared / "datasets/bccd")
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert "RBC 2381 (197) 967 (83)" in lines
    assert "images 205 87" in lines
    assert lines[-1] == "nothing found that stops a training"


def test_a_voc_folder_is_read(shared, picoquant, tmp_path):
    for part in ("Annotations", "ImageSets", "JPEGImages"):
        os.symlink(shared / "datasets/bccd" / part, tmp_path / part)
    result = found(picoquant("check", tmp_path, "--json"))
    assert {
        name: (part["format"], part["images"], part["boxes"]) for name, part in result["data_sets"].items()
    } == {
        "train": ("voc", 205, 2804),
        "val": ("voc", 87, 1137),
    }


def test_a_configuration_names_data_and_input(broken, picoquant, tmp_path):
    root = broken()
    config = tmp_path / "my.yml"
    config.write_text(
        "_BASE_: picodet_s_416_coco_npu.yml\n"
        f"TrainDataset: !COCODataSet {{dataset_dir: {root}/train, anno_path: _annotations.coco.json}}\n"
        f"EvalDataset: !COCODataSet {{dataset_dir: {root}/valid, anno_path: _annotations.coco.json}}\n"
    )
    result = found(picoquant("check", "-c", config, "-o", "Global.input_size=[64,96]", "--json"))
    assert (result["input"]["height"], result["input"]["width"]) == (64, 96)
    assert result["data_sets"]["train"]["boxes"] == 7
    none = picoquant("check", "-c", config, "TrainDataset.anno_path=gone.json")
    refused(none, "no annotation file", "gone.json")


def test_copies_and_leaks_are_found(broken, picoquant):
    root = broken()
    shutil.copy(root / "train/0.png", root / "valid/1.png")
    shutil.copy(root / "train/2.png", root / "train/3.png")
    result = found(picoquant("check", root, "--json"))
    assert result["leaks"] == {
        "groups": 1,
        "images": 2,
        "examples": [[f"{root}/train/0.png", f"{root}/valid/1.png"]],
    }
    assert result["equal_images"]["examples"] == [[f"{root}/train/2.png", f"{root}/train/3.png"]]
    assert any(line.startswith("1 images are in both train and val") for line in result["warnings"])
    assert result["ok"]


def test_repairs_are_counted_and_said_once(broken, picoquant):
    def edit(content):
        first = content["annotations"][0]
        content["annotations"] += [
            {**first, "id": 100},
            {**first, "id": 101, "bbox": [50, 30, 30, 30]},
            {**first, "id": 102, "bbox": [5, 5, 0, 9]},
            {**first, "id": 103, "iscrowd": 1},
        ]
        content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != 6]

    done = picoquant("check", broken(edit), "--json")
    train = found(done)["data_sets"]["train"]
    assert (done.code, done.err) == (0, "")
    assert train["repaired"] == {
        "boxes_clipped": 1, "boxes_dropped": 1, "images_left_out": 1, "of_these_with_crowds": 0,
    }  # fmt: skip
    assert (train["repeated"], train["crowds"], train["images"]) == (1, 1, 5)
    assert train["repeated_example"].startswith("seven [10, 5, 30, 20] of image 0.png")
    assert len([line for line in train["notes"] if "clipped; the first is annotation 101" in line]) == 1


def test_a_broken_folder_says_everything_at_once(broken, picoquant):
    root = broken(val=lambda content: content["categories"].append({"id": 9, "name": "more"}))
    (root / "train/0.png").unlink()
    (root / "valid/1.png").write_bytes(b"")
    (root / "valid/2.png").write_bytes(b"<html>")
    done = picoquant("check", root, "--json")
    result = found(done)
    line = refused(
        done, "1 of 6 images of TrainDataset are missing", "(the first of 3 faults that stop a training)"
    )
    assert line.removeprefix("picoquant: error: ").startswith(result["errors"][0])
    assert "2 of 6 images of EvalDataset cannot be read" in result["errors"][1]
    assert f"the first: image {root}/valid/1.png is empty" in result["errors"][1]
    assert "'more' is in one of them only" in result["errors"][2]
    assert result["data_sets"]["train"]["missing_images"] == {"count": 1, "examples": ["0.png"]}
    assert result["data_sets"]["val"]["unreadable_images"]["count"] == 2
    assert not result["ok"]


def test_truncated_images_are_found_by_decoding(broken, picoquant):
    root = broken()
    path = root / "valid/1.png"
    path.write_bytes(path.read_bytes()[:300])
    assert picoquant("check", root).code == 0
    refused(picoquant("check", root, "--decode"), f"the first: image {path} is truncated")


def replaced(**values):
    return lambda content: content.update(values)


def small(content):
    for entry in content["annotations"]:
        entry["bbox"] = [1, 1, 1.1, 0.7]


def normalised(content):
    for entry in content["annotations"]:
        entry["bbox"] = [0.1, 0.1, 0.5, 0.5]


def other_class(content):
    content["categories"][0]["name"] = "eight"


def same_ids(content):
    content["images"][1]["id"] = content["images"][0]["id"]


def no_size(content):
    del content["images"][0]["width"]


def unknown_class(content):
    content["annotations"][0]["category_id"] = 5


def missing_files(content):
    for entry in content["images"]:
        entry["file_name"] = "gone" + entry["file_name"]


def crowds_alone(content):
    for entry in content["annotations"]:
        entry["iscrowd"] = 1


@pytest.mark.parametrize(
    "edit, texts",
    [
        (replaced(annotations=[]), ["no image of", "has an object"]),
        (replaced(images=[]), ["lists no images"]),
        (replaced(categories=[]), ["lists no categories"]),
        (replaced(annotations={}), ["is no COCO: it has no list 'annotations'"]),
        (small, ["all 7 boxes of TrainDataset are below 8 pixels on both sides"]),
        (normalised, ["7 of 7 boxes are below one pixel", "TrainDataset.box_format to xywh_normalised"]),
        (other_class, ["'eight' is in one of them only"]),
        (same_ids, ["has an id that is not its own"]),
        (no_size, ["images entry 0.png has no width"]),
        (unknown_class, ["category_id 5", "not among the categories"]),
        (missing_files, ["6 of 6 images of TrainDataset are missing"]),
        (crowds_alone, ["no image of", "has an object"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_stops_a_training_is_refused_with_both_sets_still_shown(broken, picoquant, edit, texts):
    root = broken(edit)
    done = picoquant("check", root)
    refused(done, *texts)
    assert "EvalDataset" not in done.err
    assert " val" in done.out and "stops a training:" in done.out


@pytest.mark.parametrize(
    "name, content, text",
    [
        ("a.json", b"", "holds no data set that is known"),
        ("a.json", b"[1, 2", "holds no data set that is known"),
        ("a.txt", b"some text", "holds no data set that is known"),
        ("ImageSets/Main/train.txt", b"one\n", "holds no data set that is known"),
    ],
)
def test_folders_without_annotations_are_refused(tmp_path, picoquant, name, content, text):
    path = tmp_path / "odd" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    refused(picoquant("check", tmp_path / "odd"), text, "looked for YOLO (data.yaml; ")


def test_files_that_are_no_annotations_are_refused(tmp_path, picoquant):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    (tmp_path / "b.json").write_text('{"images": [')
    refused(picoquant("check", tmp_path / "a.png"), "neither a COCO JSON file, YOLO's data.yaml nor a list")
    refused(picoquant("check", tmp_path / "b.json"), "cannot be read as JSON")
    refused(picoquant("check", tmp_path / "gone"), "there is no", "name a folder or an annotation file")
    refused(picoquant("check"), "name a folder or an annotation file, or a configuration")


def test_two_files_for_one_section_are_asked_about(broken, picoquant):
    root = broken()
    shutil.copy(root / "train/_annotations.coco.json", root / "train/other.json")
    refused(
        picoquant("check", root), "the part train may be train/_annotations.coco.json or train/other.json"
    )


def test_keys_of_the_data_sets_apply_to_a_path(broken, picoquant):
    root = broken(normalised)
    result = found(picoquant("check", root, "TrainDataset.box_format=xywh_normalised", "--json"))
    assert (result["ok"], result["data_sets"]["train"]["largest"]) == (True, 208.0)  # half of 416
