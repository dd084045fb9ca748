"""The package's network in LiteRT: pip install ai-edge-litert; tflite-runtime will do, too.

TFLITE_MODEL names another .tflite of the package, TFLITE_DELEGATE the library that runs it on the board's NPU.
"""

import os

import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter, load_delegate
except ImportError:
    from tflite_runtime.interpreter import Interpreter, load_delegate


class Network:
    """Called with a dictionary of inputs [1, 3, H, W], returns the outputs in their order, float32."""

    def __init__(self, path):
        usual = path.name if path.suffix == ".tflite" else "model_int8.tflite"
        path = path.with_name(os.environ.get("TFLITE_MODEL", usual))
        library = os.environ.get("TFLITE_DELEGATE")
        delegates = [load_delegate(library)] if library else None
        self._network = Interpreter(model_path=str(path), experimental_delegates=delegates)
        self._network.allocate_tensors()

    def __call__(self, inputs):
        (source,) = self._network.get_input_details()
        (image,) = inputs.values()
        scale, zero = source["quantization"]
        steps = image.transpose(0, 2, 3, 1) / np.float32(scale)
        integers = np.copysign(np.floor(np.abs(steps) + 0.5), steps) + zero
        limits = np.iinfo(source["dtype"])
        self._network.set_tensor(
            source["index"], integers.clip(limits.min, limits.max).astype(source["dtype"])
        )
        self._network.invoke()
        return [self._output(details) for details in self._network.get_output_details()]

    def _output(self, details):
        scale, zero = details["quantization"]
        return (self._network.get_tensor(details["index"]).astype(np.float32) - zero) * np.float32(scale)
