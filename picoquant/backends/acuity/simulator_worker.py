"""acuity's side of `simulator.py`, in the Python that has it: see `own_environment/answering.py`."""

import os
import re
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"  # before TensorFlow is imported

import numpy as np

# acuity names a layer after the tensor of the ONNX file that it makes, and numbers it.
_NUMBERED = re.compile(r"_\d+(_relun(_\d+)?)?$")
_WITH_WEIGHTS = ("convolution", "deconvolution", "fullconnect")
_FUSED = ("relu", "relun", "clipbyvalue")  # into what they follow
_AS_WHAT_IS_READ = ("permute", "output", "reshape", "dtype_converter")


class Layers:
    """The layers of a network of acuity's, and which tensors of ours they make."""

    def __init__(self, layers, tensors):
        self._layers, self._tensors = layers, tensors
        self._reads = {
            key: [_key(one) for one in layer.get_input_layers()] if layer.get_op() != "input" else []
            for key, layer in layers.items()
        }
        self._read_by = {}
        for key, sources in self._reads.items():
            for source in sources:
                self._read_by.setdefault(source, []).append(key)

    def tensor(self, key):
        """The tensor of ours whose integers a layer has; None where there is none."""
        layer = self._layers[key]
        for name in (layer.name, _NUMBERED.sub("", key), _NUMBERED.sub("", layer.name)):
            if name in self._tensors:
                return name
        readers = self._read_by.get(key, ())
        if (
            layer.get_op() in _WITH_WEIGHTS
            and len(readers) == 1
            and self._layers[readers[0]].get_op() in _FUSED
        ):
            return self.tensor(readers[0])
        if layer.get_op() in _AS_WHAT_IS_READ and self._reads[key]:
            return self.tensor(self._reads[key][0])
        return None

    def behind(self, key):
        """The tensor of ours that a layer without one reads, through others; else acuity's name of it."""
        first = self._reads[key][0] if self._reads[key] else None
        if first is None:
            return self._layers[key].name
        return self.tensor(first) or self.behind(first)


def _key(source):
    return source if isinstance(source, str) else source.lid


def questions():
    """What loads and runs networks, by name."""
    loaded = []

    def load(model, shape, tensors, weights, qtype):
        """Load an ONNX file with scales of ours.

        Args:
            model: the file.
            shape: of its input.
            tensors: scale and zero point by name.
            weights: scales of a weight and of a bias (none without one), by the name of the operator's result.
            qtype: `uint8` or `int8`, of the tensors.

        Returns: what acuity holds then: (our name, scale, zero point) of each layer, (our name, scales) of each weight;
            and operator and name of layers that are none of ours.
        """
        from acuitylib.interface.importer import OnnxLoader
        from acuitylib.interface.inference import Inference
        from acuitylib.interface.quantization import Quantization, QuantizerType

        network = OnnxLoader(model=model).load()
        quantization = Quantization(network)
        quantization.quantize(  # that it has parameters at all; each is replaced
            input_generator_func=lambda: iter([[np.zeros(shape, np.float32)]]),
            quantizer=QuantizerType.PERCHANNEL_SYMMETRIC_AFFINE,
            qtype="int8",
            iterations=1,
        )
        layers = network.get_layers()
        ours = Layers(layers, tensors)
        made = {key: ours.tensor(key) for key in layers}
        multiplying = [key for key, layer in layers.items() if layer.get_op() in _WITH_WEIGHTS]
        unknown = [key for key in layers if made[key] is None]
        unknown += [key for key in multiplying if layers[key].name not in weights]
        if unknown:
            return [], [], [(layers[key].get_op(), ours.behind(key)) for key in unknown]
        for key, name in made.items():
            scale, zero = tensors[name]
            given = {"quantizer": "asymmetric_affine", "qtype": qtype, "scale": scale, "zp": zero}
            quantization.set_quant_params(f"{key}:out0", given)
        for key in multiplying:
            count = np.size(quantization.get_quant_params(f"{key}:weight")["scale"])
            for what, scales in zip(("weight", "bias"), weights[layers[key].name]):
                if not scales:
                    continue
                given = np.broadcast_to(np.float32(scales), count).copy()
                quantization.set_quant_params(f"{key}:{what}", {"scale": given})
        inference = Inference(network)
        inference.build_session()
        loaded.append(inference)
        held = []
        for key, name in made.items():
            one = quantization.get_quant_params(f"{key}:out0")
            held.append((name, float(np.ravel(one["scale"])[0]), int(np.ravel(one["zero_point"])[0])))
        held_weights = [
            (layers[key].name, np.ravel(quantization.get_quant_params(f"{key}:weight")["scale"]).tolist())
            for key in multiplying
        ]
        return held, held_weights, []

    def run(inputs):
        given = [np.frombuffer(content, "<f4").reshape(shape) for shape, content in inputs]
        began = time.perf_counter()
        _, results = loaded[-1].run_session(given)
        seconds = time.perf_counter() - began
        return seconds, [(value.shape, np.asarray(value, "<f4").tobytes()) for value in results]

    return {"load": load, "run": run}
