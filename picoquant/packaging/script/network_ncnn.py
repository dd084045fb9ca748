"""The package's network in ncnn on the CPU: pip install ncnn."""

import ncnn
import numpy as np


class Network:
    """Called with a dictionary of inputs [1, 3, H, W], returns the outputs in their order."""

    def __init__(self, path):
        self._net = ncnn.Net()
        options = self._net.opt
        options.use_vulkan_compute = False
        # What is not INT8 in float32, as in the package's expected detections.
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        options.use_bf16_storage = False
        for load, file in (
            (self._net.load_param, path),
            (self._net.load_model, path.with_suffix(".bin")),
        ):
            if load(str(file)):
                raise SystemExit(f"ncnn does not take {file}")

    def __call__(self, inputs):
        extractor = self._net.create_extractor()
        images = {name: np.ascontiguousarray(value[0]) for name, value in inputs.items()}
        for name, image in images.items():
            extractor.input(name, ncnn.Mat(image))
        return [np.array(extractor.extract(name)[1])[None] for name in self._net.output_names()]
