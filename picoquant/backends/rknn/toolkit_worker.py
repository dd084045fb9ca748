"""The toolkit's side of `toolkit.py`: `utils/serve.py` runs this file in the Python that has rknn-toolkit2.

It imports what that environment has, and nothing of picoquant.
"""

import os
import sys
import time
from contextlib import contextmanager

import numpy as np
from rknn.api import RKNN

PRINTED = "printed.txt"
LEVEL = 2  # of optimisation: at 3 pools become convolutions with weights of their own


@contextmanager
def printed(into):
    """What this process prints in the block, its C++ too, goes to a list as one text.

    It is in a file meanwhile, which the other side reads when this process dies.
    """
    before = os.dup(1), os.dup(2)
    with open(PRINTED, "w+b") as stream:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, kept in zip((1, 2), before):
                os.dup2(kept, number)
                os.close(kept)
            stream.seek(0)
            into.append(stream.read().decode("utf-8", "replace"))


def loaded(model, platform, said, verbose):
    """A built network, or None; what was printed is added to `said`."""
    with printed(said):
        rknn = RKNN(verbose=verbose)
        try:
            rknn.config(target_platform=platform, optimization_level=LEVEL)
            for step in (lambda: rknn.load_onnx(model=model), lambda: rknn.build(do_quantization=False)):
                if step() != 0:
                    return None
        except Exception as error:  # the toolkit's are ValueErrors with a traceback as their text
            print(f"\nE {error}")
            return None
        return rknn


def answerer(scratch):
    """What builds and simulates networks, one question after the other; it leaves files in `scratch`."""
    os.chdir(scratch)  # the toolkit leaves files where it runs
    simulated = []

    def build(model, platform, out):
        said = []
        rknn = loaded(model, platform, said, verbose=True)
        done = False
        if rknn is not None:
            with printed(said):
                done = rknn.export_rknn(out) == 0
                rknn.release()
        return done, "".join(said)

    def simulate(model, platform):
        said = []
        rknn = loaded(model, platform, said, verbose=False)
        done = False
        if rknn is not None:
            with printed(said):
                done = rknn.init_runtime() == 0
            simulated.append(rknn)
        return done, "".join(said)

    def run(inputs):
        said, results = [], None
        arrays = [np.frombuffer(content, "<f4").reshape(shape) for shape, content in inputs]
        with printed(said):
            began = time.perf_counter()
            try:
                results = simulated[-1].inference(inputs=arrays, data_format=["nchw"] * len(arrays))
            except Exception as error:
                print(f"\nE {error}")
            seconds = time.perf_counter() - began
        if results is None:
            return False, "".join(said)
        return True, (seconds, [(value.shape, value.astype("<f4").tobytes()) for value in results])

    does = {"build": build, "simulate": simulate, "run": run}

    def answer(question):
        return does[question[0]](*question[1:])

    return answer
