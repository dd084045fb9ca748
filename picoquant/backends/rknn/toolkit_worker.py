"""The toolkit's side of `toolkit.py`, in the Python that has rknn-toolkit2: see `own_environment/answering.py`."""

import time

import numpy as np
from rknn.api import RKNN

LEVEL = 2  # of optimisation: at 3 pools become convolutions with weights of their own


def loaded(model, platform, verbose):
    """A built network."""
    rknn = RKNN(verbose=verbose)
    rknn.config(target_platform=platform, optimization_level=LEVEL)
    succeeded(rknn.load_onnx(model=model))
    succeeded(rknn.build(do_quantization=False))
    return rknn


def succeeded(code):
    """The toolkit has printed what is wrong where its code is not 0."""
    if code != 0:
        raise Exception


def questions():
    """What builds and simulates networks, by name."""
    simulated = []

    def build(model, platform, out):
        rknn = loaded(model, platform, verbose=True)
        succeeded(rknn.export_rknn(out))
        rknn.release()

    def simulate(model, platform):
        simulated.append(loaded(model, platform, verbose=False))
        succeeded(simulated[-1].init_runtime())

    def run(inputs):
        arrays = [np.frombuffer(content, "<f4").reshape(shape) for shape, content in inputs]
        began = time.perf_counter()
        results = simulated[-1].inference(inputs=arrays, data_format=["nchw"] * len(arrays))
        seconds = time.perf_counter() - began
        if results is None:
            raise Exception
        return seconds, [(value.shape, value.astype("<f4").tobytes()) for value in results]

    return {"build": build, "simulate": simulate, "run": run}
