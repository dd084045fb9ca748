"""The package's network in MNN on the CPU: pip install MNN."""

import MNN
import numpy as np


class Network:
    """Called with a dictionary of inputs [1, 3, H, W], returns the outputs in their order."""

    def __init__(self, path):
        self._net = MNN.Interpreter(str(path))
        # What is not INT8 in float32, as in the package's expected detections.
        self._session = self._net.createSession({"backend": "CPU", "precision": "high"})

    def __call__(self, inputs):
        for name, tensor in self._net.getSessionInputAll(self._session).items():
            tensor.copyFrom(host(np.ascontiguousarray(inputs[name], np.float32)))
        self._net.runSession(self._session)
        outputs = []
        for _, tensor in sorted(self._net.getSessionOutputAll(self._session).items()):
            shape = tensor.getShape()
            found = host(np.zeros(shape, np.float32))
            tensor.copyToHostTensor(found)
            outputs.append(np.array(found.getNumpyData()).reshape(shape))
        return outputs


def host(value):
    """An array as a tensor of MNN's, in the order of its axes."""
    return MNN.Tensor(value.shape, MNN.Halide_Type_Float, value, MNN.Tensor_DimensionType_Caffe)
