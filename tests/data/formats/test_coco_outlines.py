"""Outlines are cut out of a COCO file's text before it is parsed; nothing else may go with them."""

from __future__ import annotations

import json

import pytest

from picoquant.data.formats.coco_file import read_annotations
from picoquant.errors import DataError

BOX = {"id": 1, "image_id": 1, "bbox": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    "outline",
    [
        [],
        [[1, 2.5, -3e-2, 4]],
        [[1, 2], [3, 4]],
        {"counts": [1, 2], "size": [3, 4]},
        {"counts": 'ab]}[\\"{', "size": [3, 4]},
        [[1, 2], {"a": [3]}],
        [["1", "2"], None],
        None,
        "[[1, 2]]",
    ],
    ids=str,
)
@pytest.mark.parametrize("indent", [None, 2])
def test_whatever_an_outline_is_the_rest_is_read(tmp_path, outline, indent):
    names = ['a "segmentation": [1, 2].jpg', "b]]}.jpg"]
    content = {
        "images": [{"file_name": name} for name in names],
        "annotations": [{"segmentation": outline, **BOX}, {**BOX, "segmentation": outline}, BOX],
        "categories": [{"id": 1, "name": "segmentation"}],
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content, indent=indent))
    found = read_annotations(path, "TrainDataset")
    assert found == {**content, "annotations": [BOX] * 3}


def test_an_error_names_the_place_in_the_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"images": [],\n "annotations": [{"segmentation": [[1, 2]], "bbox": }]}')
    with pytest.raises(DataError, match=r"line 2 column 53"):
        read_annotations(path, "TrainDataset")
