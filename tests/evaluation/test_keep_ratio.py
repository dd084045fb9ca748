"""Images of several shapes through a network whose input keeps their ratio: evaluation, prediction and parts, by hand.

By hand: sides times the smaller factor, half of what is left over before the image, boxes less that and back by the
factor of each side. Nothing of the project resizes, pads or moves boxes there.
"""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from picoquant.config.data import preprocessing, with_model_preprocessing
from picoquant.data.formats.coco import load_coco
from picoquant.data.readers.reader import EvalReader
from picoquant.data.settings import DatasetSettings, ReaderSettings
from picoquant.evaluation import decoder_for, evaluate, open_predictor
from picoquant.evaluation.coco_metrics import coco_metrics, coco_results
from picoquant.evaluation.evaluate import evaluate_sliced
from picoquant.paddle_program.infer_config import write_infer_config
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.network_input import feed_of_image
from picoquant.postprocess import Detections
from picoquant.postprocess.merge import merged
from picoquant.prediction.predict import predict
from picoquant.prediction.sources import Frame
from picoquant.runtimes.backends import Running
from picoquant.runtimes.sliced import Slicing
from tests.networks.run_folder import write_images
from tests.networks.small_int8 import CONFIG, write_small

FILL = (114.0, 20.0, 240.0)
SIZES = [(48, 64), (64, 40), (30, 90), (32, 32), (50, 50)]  # height, width of the images


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Predictor, decoder, model."""
    root = tmp_path_factory.mktemp("model")
    write_small(root, quantised=False)
    write_infer_config(replace(CONFIG, interp=1, keep_ratio=True, padding="centre", fill=FILL), root)
    folder = ModelFolder.open(root)
    predictor = open_predictor(folder)
    return predictor, decoder_for(predictor, folder.config), folder


def by_hand(network, image):
    predictor, decoder, _ = network
    factor = min(32 / image.shape[0], 32 / image.shape[1])
    high, wide = (int(side * factor + 0.5) for side in image.shape[:2])
    top, left = (32 - high) // 2, (32 - wide) // 2
    canvas = np.empty((32, 32, 3), np.float32)
    canvas[:] = FILL
    canvas[top : top + high, left : left + wide] = cv2.resize(
        image, (wide, high), interpolation=cv2.INTER_LINEAR
    )
    outputs = predictor({"image": (canvas / 255).transpose(2, 0, 1)[None].astype(np.float32)})
    found = decoder.decode(outputs, np.ones((1, 2), np.float32))[0]
    boxes = found.boxes - np.float32([left, top, left, top])
    back = image.shape[1] / wide, image.shape[0] / high
    return Detections(found.classes, found.scores, boxes * np.float32([*back, *back]))


@pytest.fixture(scope="module")
def images(network, tmp_path_factory):
    """A data set whose objects are the four best by hand in each image."""
    root = tmp_path_factory.mktemp("images")
    names = write_images(root)
    pixels, truth = {}, {"images": [], "annotations": []}
    truth["categories"] = [{"id": number, "name": name} for number, name in enumerate(CONFIG.labels, 1)]
    for number, (name, size) in enumerate(zip(names, SIZES), 1):
        path = str(root / "images" / name)
        image = cv2.resize(cv2.imread(path), size[::-1], interpolation=cv2.INTER_NEAREST)
        assert cv2.imwrite(path, image)
        pixels[number] = image[..., ::-1].copy()
        truth["images"].append({"id": number, "file_name": name, "width": size[1], "height": size[0]})
        found = by_hand(network, pixels[number])
        for index in np.argsort(-found.scores)[:4]:
            x1, y1, x2, y2 = found.boxes[index].tolist()
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1, "image_id": number, "iscrowd": 0,
                    "category_id": int(found.classes[index]) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                }
            )  # fmt: skip
    (root / "val.json").write_text(json.dumps(truth))
    settings = DatasetSettings(
        dataset_dir=str(root),
        image_dir="images",
        anno_path="val.json",
        box_format="xywh",
        section="EvalDataset",
    )
    return load_coco(settings, training=False), pixels


def sorted_rows(rows):
    return sorted((row["image_id"], row["category_id"], -round(row["score"], 4)) for row in rows)


def same(found, expected):
    assert len(found) == len(expected) > 5
    assert sorted_rows(found) == sorted_rows(expected)

    def key(row):
        return row["image_id"], row["category_id"], -round(row["score"], 4), round(row["bbox"][0], 1)

    boxes = [np.array([row["bbox"] for row in sorted(rows, key=key)]) for rows in (found, expected)]
    assert np.abs(boxes[0] - boxes[1]).max() < 0.02


def test_evaluation(network, images):
    dataset, pixels = images
    predictor, decoder, folder = network
    hand = {number: by_hand(network, image) for number, image in pixels.items()}
    expected = [
        row for number, found in hand.items() for row in coco_results(number, found, dataset.category_ids)
    ]
    metrics, _ = coco_metrics(dataset.ground_truth(), expected, dataset.image_ids)
    assert metrics["mAP"] > 0.5
    reader = ReaderSettings.from_mapping(
        {
            "sample_transforms": [{"Decode": {}}, {"Resize": {"target_size": 320, "keep_ratio": False}}],
            "batch_size": 2,
        },
        "EvalReader",
    )
    settings = with_model_preprocessing(reader, folder.config)
    found = evaluate(predictor, decoder, dataset, EvalReader(dataset, settings, 0))
    same(found.detections, expected)
    assert found.metrics["mAP"] == pytest.approx(metrics["mAP"], abs=2e-3)
    # Calibration and QAT are given the same inputs.
    batch = next(EvalReader(dataset, settings, 0).endless(seed=0, shuffle=False))
    feeds = [feed_of_image(pixels[number], folder.config)["image"] for number in batch["image_id"].tolist()]
    assert np.array_equal(batch["image"], np.concatenate(feeds)) and len(feeds) == 2
    # And what is exported of such a reader prepares images in the same way.
    made = preprocessing(settings, (32, 32))
    assert replace(folder.config, **made) == folder.config


def test_prediction(network, images):
    _, pixels = images
    predictor, decoder, folder = network
    lines = []
    frames = [Frame(str(number), None, image, str(number)) for number, image in pixels.items()]
    running = Running("paddle", "fp32", predictor, decoder, 0, labels=CONFIG.labels)
    predict(running, folder.config, frames, 0.3, lines.append)
    for line, image in zip(map(json.loads, lines), pixels.values()):
        hand = by_hand(network, image)
        sure = hand.scores >= 0.3
        assert [row["score"] for row in line["detections"]] == pytest.approx(
            hand.scores[sure].tolist(), abs=1e-4
        )
        boxes = np.array([row["box"] for row in line["detections"]]).reshape(-1, 4)
        assert np.abs(boxes - hand.boxes[sure]).max(initial=0) < 0.02
    assert sum(len(json.loads(line)["detections"]) for line in lines) > 5


def test_in_parts(network, images):
    dataset, pixels = images
    predictor, decoder, folder = network
    slicing = Slicing((32, 40), 0.2)  # parts are no squares either, and those at a border are smaller
    expected = []
    for number, image in pixels.items():
        parts = []
        windows = slicing.windows(*image.shape[:2])
        for x1, y1, x2, y2 in windows:
            found = by_hand(network, np.ascontiguousarray(image[y1:y2, x1:x2]))
            if len(windows) > 1:
                boxes = np.clip(found.boxes, 0, np.float32([x2 - x1, y2 - y1] * 2)) + np.float32(
                    [x1, y1, x1, y1]
                )
                found = Detections(found.classes, found.scores, boxes)
            parts.append(found)
        whole = merged(parts, slicing.merge) if len(parts) > 1 else parts[0]
        expected += coco_results(number, whole, dataset.category_ids)
    found = evaluate_sliced(predictor, decoder, dataset, folder.config, slicing)
    same(found.detections, expected)
