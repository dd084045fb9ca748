"""The package's model on an image: python detect.py [IMAGE]; without one the sample, compared with what is expected.

Needs numpy, opencv-python and what network.py imports; nothing of picoquant. Settings are the package's settings.json.
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
from network import Network

PACKAGE = Path(__file__).resolve().parents[1]


def prepare(image, settings):
    """RGB image -> input [1, 3, H, W], the factors (y, x) of its size, and the padding above and left of it."""
    size, sides = settings["size"], image.shape[:2]
    inner = size
    if settings["keep_ratio"]:
        scale = min(size[0] / sides[0], size[1] / sides[1])
        inner = [max(int(side * scale + 0.5), 1) for side in sides]
    y, x = inner[0] / sides[0], inner[1] / sides[1]
    image = cv2.resize(image, None, fx=x, fy=y, interpolation=settings["interpolation"])
    image = image.astype(np.float32) / (255 if settings["is_scale"] else 1)
    image = (image - np.float32(settings["mean"])) / np.float32(settings["std"])
    part = {"end": 0, "centre": 1, "start": 2}[settings["padding"]]
    top, left = ((whole - side) * part // 2 for whole, side in zip(size, inner))
    canvas = np.empty((1, 3, *size), np.float32)
    canvas[:] = np.float32(settings["fill"])[:, None, None]
    canvas[0, :, top : top + inner[0], left : left + inner[1]] = image.transpose(2, 0, 1)
    return canvas, np.float32([y, x]), np.float32([top, left])


def decode(outputs, settings):
    """Raw outputs, one of each part a level -> boxes [L, 4] in input pixels and scores [C, L]."""
    sigmoid, levels = (lambda x: 1 / (1 + np.exp(-x))), len(settings["strides"])
    parts = [outputs[at : at + levels] for at in range(0, len(outputs), levels)]
    boxes, scores = [], []
    for level, stride in enumerate(settings["strides"]):
        score, distances = (
            parts[0][level][0],
            parts[-1][level][0].reshape(-1, 4, parts[-1][level].shape[-1] // 4),
        )
        if len(parts) == 3 or settings["class_outputs"] == "logits":
            score = sigmoid(score)
        if len(parts) == 3:  # and how well the box fits
            score = np.sqrt(score * sigmoid(parts[1][level][0]) + 1e-9)
        bins = np.exp(distances - distances.max(-1, keepdims=True))
        sides = (bins / bins.sum(-1, keepdims=True)) @ np.arange(bins.shape[-1])
        height, width = (-(-side // stride) for side in settings["size"])
        points = np.stack(np.mgrid[:height, :width][::-1], -1).reshape(-1, 2) + settings["cell_offset"]
        boxes.append(np.hstack([points - sides[:, :2], points + sides[:, 2:]]) * stride)
        scores.append(score)
    return np.concatenate(boxes), np.concatenate(scores).T


def iou(box, others):
    """Overlap of a box with others [N, 4]."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.clip(sides, 0, None).prod(-1)
    return shared / ((box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(-1) - shared + 1e-12)


def suppress(boxes, scores, nms):
    """Class by class, then the best of all: rows of class, score and box."""
    found = []
    for label, values in enumerate(scores):
        order = np.argsort(-values, kind="stable")
        order = order[values[order] > nms["score_threshold"]]
        order = order[: nms["nms_top_k"]] if nms["nms_top_k"] > 0 else order
        while len(order):
            best, order = order[0], order[1:]
            found.append((label, float(values[best]), boxes[best]))
            order = order[iou(boxes[best], boxes[order]) <= nms["nms_threshold"]]
    found.sort(key=lambda row: -row[1])
    return found[: nms["keep_top_k"]] if nms["keep_top_k"] >= 0 else found


def missing(these, those, tolerance):
    """Those of `these` that score enough and have no partner among `those`."""

    def pair(a, b):
        near = a[0] == b[0] and abs(a[1] - b[1]) <= tolerance["score"]
        return near and iou(np.array(a[2]), np.array(b[2])[None])[0] >= tolerance["iou"]

    sure = (one for one in these if one[1] >= tolerance["min_score"])
    return [one for one in sure if not any(pair(one, other) for other in those)]


def main():
    settings = json.loads((PACKAGE / "settings.json").read_text(encoding="utf-8"))
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE / "sample" / "image.png"
    image = cv2.imread(str(path))
    if image is None:
        sys.exit(f"detect.py: {path} is no image")
    pixels, factors, before = prepare(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), settings)
    feed = {"image": pixels, "scale_factor": factors[None], "im_shape": np.float32([pixels.shape[2:]])}
    network = Network(PACKAGE / settings["models"][0]["file"])
    outputs = network({name: feed[name] for name in settings["inputs"]})
    if settings["outputs"] == "detections":
        corner = np.tile((before / factors)[::-1], 2)
        found = [(int(row[0]), float(row[1]), row[2:] - corner) for row in outputs[0] if row[0] >= 0]
    else:
        raw = settings["outputs"] == "raw"
        boxes, scores = (
            decode(outputs, settings)
            if raw
            else sorted((x[0] for x in outputs), key=lambda x: x.shape[1] != 4)
        )
        found = suppress(
            (boxes - np.tile(before[::-1], 2)) / np.tile(factors[::-1], 2), scores, settings["nms"]
        )
    for label, score, box in found:
        if score >= 0.3:
            print(settings["labels"][label], f"{score:.3f}", [round(float(side), 1) for side in box])
    if len(sys.argv) > 1:
        return
    expected = json.loads((PACKAGE / "sample" / "expected.json").read_text(encoding="utf-8"))
    wanted = [(row["class"], row["score"], row["box"]) for row in expected["detections"]]
    wrong = missing(wanted, found, expected["tolerance"]), missing(found, wanted, expected["tolerance"])
    print(f"not found: {wrong[0]}, not expected: {wrong[1]}" if any(wrong) else "as expected")
    sys.exit(1 if any(wrong) else 0)


if __name__ == "__main__":
    main()
