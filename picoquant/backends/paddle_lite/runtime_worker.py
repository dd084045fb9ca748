"""Paddle Lite's side of `lite_runtime`: this file is run by the Python that has paddlelite, not imported.

Uses the standard library alone: that environment has no numpy. stdin: a line of JSON, the shapes of the
inputs (4 bytes a number follow), or its end. stdout: a line of JSON, then the outputs' bytes.
"""

import array
import json
import os
import sys
import time

answers = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)  # what the library itself prints must not stand between the answers

from paddlelite.lite import MobileConfig, create_paddle_predictor  # noqa: E402


def product(shape):
    """How many numbers a shape holds."""
    count = 1
    for size in shape:
        count *= size
    return count


def main(model, kinds):
    """Run what comes; `kinds` has a letter for each output: f float32, i int32."""
    config = MobileConfig()
    config.set_model_from_file(model)
    predictor = create_paddle_predictor(config)
    while True:
        line = sys.stdin.buffer.readline()
        if not line:
            return
        for index, shape in enumerate(json.loads(line)):
            values = array.array("f")
            values.frombytes(sys.stdin.buffer.read(4 * product(shape)))
            tensor = predictor.get_input(index)
            tensor.resize(shape)
            tensor.set_float_data(values.tolist())
        began = time.perf_counter()
        predictor.run()
        seconds = time.perf_counter() - began
        shapes, contents = [], []
        for index, kind in enumerate(kinds):
            tensor = predictor.get_output(index)
            shape = list(tensor.shape())
            shapes.append(shape)
            values = tensor.float_data() if kind == "f" else tensor.int32_data()
            contents.append(array.array(kind, values[: product(shape)]).tobytes())
        answers.write(json.dumps({"seconds": seconds, "shapes": shapes}).encode() + b"\n")
        answers.write(b"".join(contents))
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
