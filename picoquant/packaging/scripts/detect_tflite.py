"""Detect objects with the .tflite beside this file.

python3 detect_tflite.py [IMAGE] [--model FILE] [--delegate LIBRARY]

Needs numpy, OpenCV and LiteRT (pip install ai-edge-litert; tflite-runtime in its place will do). Without IMAGE the
package's sample is run and compared: exit code 0 when the detections are as expected, 1 when not.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import cv2
import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter, load_delegate
except ImportError:
    from tflite_runtime.interpreter import Interpreter, load_delegate

HERE = Path(__file__).resolve().parent


def prepared(image, given):
    """A BGR image as [1, H, W, 3] float32, and input size / image size (y, x)."""
    (high, wide), (height, width) = given["size"], image.shape[:2]
    scale = [high / height, wide / width]
    if given["keep_ratio"]:
        scale = [min(min(high, wide) / min(height, width), max(high, wide) / max(height, width))] * 2
    rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    small = cv2.resize(rgb, None, fx=scale[1], fy=scale[0], interpolation=given["interpolation"])[
        :high, :wide
    ]
    pixels = small.astype(np.float32) / (255 if given["is_scale"] else 1)
    result = np.zeros((1, high, wide, 3), np.float32)
    result[0, : small.shape[0], : small.shape[1]] = (pixels - np.float32(given["mean"])) / np.float32(
        given["std"]
    )
    return result, scale


def run(interpreter, image):
    """The outputs of the network, from integers to float32."""
    (source,) = interpreter.get_input_details()
    scale, zero = source["quantization"]
    limits = np.iinfo(source["dtype"])
    steps = image / np.float32(scale)
    integers = np.clip(np.copysign(np.floor(np.abs(steps) + 0.5), steps) + zero, limits.min, limits.max)
    interpreter.set_tensor(source["index"], integers.astype(source["dtype"]))
    interpreter.invoke()
    found = [
        (interpreter.get_tensor(out["index"]), *out["quantization"])
        for out in interpreter.get_output_details()
    ]
    return [(value.astype(np.float32) - zero) * np.float32(scale) for value, scale, zero in found]


def detections(outputs, given, scale):
    """Rows of class, score, x1, y1, x2, y2 in image pixels, the best first."""
    levels, nms, rows = len(given["strides"]), given["nms"], []
    parts = [np.concatenate(outputs[i : i + levels], axis=1)[0] for i in range(0, len(outputs), levels)]
    scores, logits = parts[0], parts[-1]
    if given["class_outputs"] == "logits":
        scores = 1 / (1 + np.exp(-scores))
        scores = scores if len(parts) == 2 else np.sqrt(scores / (1 + np.exp(-parts[1])) + 1e-9)
    cells, strides = [], []
    for stride in given["strides"]:
        grid = np.mgrid[: -(-given["size"][0] // stride), : -(-given["size"][1] // stride)]
        cells.append((grid[::-1].reshape(2, -1).T + given["cell_offset"]) * stride)
        strides.append(np.full((len(cells[-1]), 1), stride))
    cells, strides = np.concatenate(cells), np.concatenate(strides)
    logits = logits.reshape(len(logits), 4, -1)
    bins = np.exp(logits - logits.max(axis=-1, keepdims=True))
    sides = (bins @ np.arange(bins.shape[-1])) / bins.sum(axis=-1) * strides
    boxes = np.concatenate([cells - sides[:, :2], cells + sides[:, 2:]], axis=1) / np.float32(
        [*scale[::-1]] * 2
    )
    for label in range(scores.shape[1]):
        order = np.argsort(-scores[:, label], kind="stable")
        order = order[scores[order, label] > nms["score_threshold"]]
        order = order[: nms["nms_top_k"]] if nms["nms_top_k"] > 0 else order
        while len(order):
            best, order = order[0], order[1:]
            rows.append([label, float(scores[best, label]), *map(float, boxes[best])])
            order = order[[overlap(boxes[best], boxes[other]) <= nms["nms_threshold"] for other in order]]
    rows.sort(key=lambda row: -row[1])
    return rows[: nms["keep_top_k"]] if nms["keep_top_k"] > 0 else rows


def overlap(one, two):
    """Intersection over union of two boxes."""
    sides = np.minimum(one[2:], two[2:]) - np.maximum(one[:2], two[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    return shared / max(float(np.prod(one[2:] - one[:2]) + np.prod(two[2:] - two[:2])) - shared, 1e-9)


def unlike(these, those, allowed):
    """Those of the rows from the least score on that have no partner on the other side."""
    free, alone = list(those), []
    for row in (row for row in these if row[1] >= allowed["min_score"]):
        fits = [o for o in free if o[0] == row[0] and abs(o[1] - row[1]) <= allowed["score"]]
        best = max(fits, key=lambda o: overlap(np.array(o[2:]), np.array(row[2:])), default=None)
        if best is not None and overlap(np.array(best[2:]), np.array(row[2:])) >= allowed["iou"]:
            free.remove(best)
        else:
            alone.append(row)
    return alone


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("image", nargs="?")
    parser.add_argument("--model", default=str(HERE / "model_int8.tflite"))
    parser.add_argument("--delegate", help="library that runs the network on the board's NPU")
    options = parser.parse_args()
    given = json.loads((HERE / "settings.json").read_text(encoding="utf-8"))
    path = options.image or str(HERE / "sample" / "image.png")
    image = cv2.imread(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None or not Path(options.model).is_file():
        sys.exit(f"cannot read {path if image is None else options.model}")
    delegates = [load_delegate(options.delegate)] if options.delegate else None
    interpreter = Interpreter(model_path=options.model, experimental_delegates=delegates)
    interpreter.allocate_tensors()
    pixels, scale = prepared(image, given)
    run(interpreter, pixels)  # an NPU may compile at the first call
    began = time.perf_counter()
    outputs = run(interpreter, pixels)
    milliseconds = 1e3 * (time.perf_counter() - began)
    rows = detections(outputs, given, scale)
    for label, score, *box in rows if options.image else [row for row in rows if row[1] >= 0.5]:
        print(f"{given['labels'][label]} {score:.3f} at {', '.join(f'{side:.1f}' for side in box)}")
    print(f"{milliseconds:.1f} ms")
    if not options.image:
        expected = json.loads((HERE / "sample" / "expected.json").read_text(encoding="utf-8"))
        others = [[row["class"], row["score"], *row["box"]] for row in expected["detections"]]
        lost, new = (unlike(*pair, expected["tolerance"]) for pair in ((others, rows), (rows, others)))
        print(
            "as expected"
            if not lost + new
            else f"NOT as expected: {len(lost)} not found, {len(new)} not expected"
        )
        sys.exit(1 if lost + new else 0)


if __name__ == "__main__":
    main()
