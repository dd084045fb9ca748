"""Paddle Lite's side of `runtime.py`: `utils/serve.py` runs this file in the Python that has paddlelite.

It imports the standard library alone besides: that environment has no numpy.
"""

import array
import time

from paddlelite.lite import MobileConfig, create_paddle_predictor


def product(shape):
    """How many numbers a shape holds."""
    count = 1
    for size in shape:
        count *= size
    return count


def answerer(model, kinds):
    """What runs a `.nb`; `kinds` has a letter for each output: f float32, i int32.

    It takes shape and bytes of each float32 input, and returns the seconds that the network took, and shape and bytes
    of each output.
    """
    config = MobileConfig()
    config.set_model_from_file(model)
    predictor = create_paddle_predictor(config)

    def run(inputs):
        for index, (shape, content) in enumerate(inputs):
            values = array.array("f")
            values.frombytes(content)
            tensor = predictor.get_input(index)
            tensor.resize(list(shape))
            tensor.set_float_data(values.tolist())
        began = time.perf_counter()
        predictor.run()
        seconds = time.perf_counter() - began
        results = []
        for index, kind in enumerate(kinds):
            tensor = predictor.get_output(index)
            shape = list(tensor.shape())
            values = tensor.float_data() if kind == "f" else tensor.int32_data()
            results.append((shape, array.array(kind, values[: product(shape)]).tobytes()))
        return seconds, results

    return run
