"""INT8 against FP32 in ONNX Runtime on the CPU: picoquant, ONNX Runtime's quantiser, paddle2onnx.

    python benchmarks/onnx_int8_speed.py --run output/bccd --images ../shared/datasets/bccd/JPEGImages

`--run` is a finished run (`picoquant run … --until quantize`); with `QuantAware.onnx_format=true` in it,
paddle2onnx's export (rknn backend, all of its QuantizeLinear) is measured, too. All contenders take turns in
one process, so that other work on the machine disturbs them alike. ONNX Runtime's threads wait busily by
default, which counts as CPU seconds; not so with `--patient`. Printed are the median time of a call by
the clock and in CPU seconds, the ratio of each to the FP32 model by paddle2onnx, file sizes and the kernels
that are left after ONNX Runtime's optimiser. ONNX Runtime's quantiser is given the same FP32 model with its
own optimisations done, 32 images, QDQ, min-max, uint8 activations and int8 weights per channel (with int8
activations, its default, it is slower than FP32).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

_BLOCK = 14  # calls of a model before the next one's turn
_NOT_COUNTED = 4  # of them: the other models' threads may still wait busily


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--run", required=True, type=Path, help="folder of a run with export and quantize")
    parser.add_argument("--images", required=True, type=Path, help="folder of images to calibrate on")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--calls", type=int, default=150, help="of each model")
    parser.add_argument(
        "--patient", action="store_true", help="threads sleep while they wait: CPU seconds without waiting"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        models = contenders(options, Path(scratch))
        sessions = {
            name: session(path, options.threads, patient=options.patient) for name, path in models.items()
        }
        shape = next(iter(sessions.values())).get_inputs()[0].shape
        feed = {"image": next(images(options.images, shape[2:], read_config(options.run)))}
        wall, cpu = measure(sessions, feed, options.calls)
        for name, path in models.items():
            print(
                f"{name:24} {1e3 * wall[name]:7.2f} ms  {1e3 * cpu[name]:7.2f} ms of CPU  "
                f"{wall['FP32'] / wall[name]:5.2f} times by the clock, {cpu['FP32'] / cpu[name]:5.2f} by CPU  "
                f"{path.stat().st_size / 1e6:.2f} MB"
            )
        for name, path in models.items():
            print(f"{name}: {kernels(path, Path(scratch) / 'optimised.onnx')}")


def contenders(options: argparse.Namespace, scratch: Path) -> dict[str, Path]:
    """The models by name, FP32 first."""
    import onnx

    from picoquant.backends.onnx.files import write_onnx
    from picoquant.backends.onnx.paddle2onnx import paddle_to_onnx
    from picoquant.backends.onnx.qdq import make_onnx
    from picoquant.int8.files import open_network
    from picoquant.paddle_program.edit import batch_of_one, write_program
    from picoquant.paddle_program.model_folder import ModelFolder

    models = {}
    fp32 = ModelFolder.open(options.run / "export")
    write_program(batch_of_one(fp32.model, fp32.config.input_size), scratch / "fp32.pdmodel")
    models["FP32"] = scratch / "fp32.onnx"
    onnx.save(paddle_to_onnx(scratch / "fp32.pdmodel", fp32.params), models["FP32"])

    int8 = ModelFolder.open(options.run / "quantize")
    network = open_network(int8).for_one_image(int8.config.input_size, str(int8.model))
    models["picoquant"] = scratch / "picoquant.onnx"
    write_onnx(make_onnx(network), models["picoquant"])

    models["ONNX Runtime's quantiser"] = scratch / "ort.onnx"
    quantise_by_onnxruntime(models["FP32"], models["ONNX Runtime's quantiser"], options, scratch)
    with_qdq = int8.path / "onnx_format"
    if (with_qdq / "model.pdmodel").is_file():
        models["paddle2onnx rknn"] = scratch / "rknn.onnx"
        export_by_paddle2onnx(with_qdq, models["paddle2onnx rknn"], int8.config.input_size, scratch)
    else:
        print("paddle2onnx's INT8 is not measured: the run has no quantize/onnx_format")
    return models


def read_config(run: Path) -> Any:
    """How the run's images are prepared."""
    from picoquant.paddle_program.infer_config import read_infer_config

    return read_infer_config(run / "export")


def images(folder: Path, size: Any, config: Any) -> Any:
    """The images of a folder as inputs `[1, 3, H, W]`."""
    import cv2

    from picoquant.paddle_program.network_input import feed_of_image

    for path in sorted(folder.glob("*.jpg")):
        picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        yield feed_of_image(picture, config)["image"]


def quantise_by_onnxruntime(fp32: Path, out: Path, options: argparse.Namespace, scratch: Path) -> None:
    """ONNX Runtime's static post-training quantisation."""
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    settings.optimized_model_filepath = str(scratch / "folded.onnx")
    size = onnxruntime.InferenceSession(str(fp32), settings).get_inputs()[0].shape[2:]

    class Reader(CalibrationDataReader):
        """The first 32 images."""

        def __init__(self) -> None:
            self._left = zip(images(options.images, size, read_config(options.run)), range(32))

        def get_next(self) -> Any:
            image = next(self._left, None)
            return None if image is None else {"image": image[0]}

    quantize_static(
        scratch / "folded.onnx",
        out,
        Reader(),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def export_by_paddle2onnx(folder: Path, out: Path, size: Any, scratch: Path) -> None:
    """paddle2onnx's own export of the model with quantize_linear."""
    import sys

    from picoquant.paddle_program.edit import batch_of_one, write_program
    from picoquant.utils.subprocesses import run_program

    write_program(batch_of_one(folder / "model.pdmodel", size), scratch / "qdq.pdmodel")
    code = (
        "import sys, zlib, paddle2onnx; model, params, out = sys.argv[1:]; "
        "paddle2onnx.export(model, params, out, opset_version=13, deploy_backend='rknn')"
    )
    files = [scratch / "qdq.pdmodel", folder / "model.pdiparams", out]
    outcome = run_program([sys.executable, "-c", code, *map(str, files)])
    if outcome.code:
        raise SystemExit(f"paddle2onnx: {outcome.ended}: {outcome.text[-500:]}")


def session(path: Path, threads: int, optimised: Path | None = None, patient: bool = False) -> Any:
    """A model in ONNX Runtime on the CPU."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
    settings.log_severity_level = 3
    if patient:
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if optimised is not None:
        settings.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def measure(sessions: dict[str, Any], feed: dict[str, np.ndarray], calls: int) -> tuple[dict, dict]:
    """Median seconds of a call by the clock and of CPU, taking turns."""
    wall: dict[str, list[float]] = {name: [] for name in sessions}
    cpu: dict[str, list[float]] = {name: [] for name in sessions}
    while len(wall[next(iter(sessions))]) < calls:
        for name, model in sessions.items():
            for turn in range(_BLOCK):
                began, used = time.perf_counter(), time.process_time()
                model.run(None, feed)
                if turn >= _NOT_COUNTED:
                    cpu[name].append(time.process_time() - used)
                    wall[name].append(time.perf_counter() - began)
        time.sleep(0.01)
    medians = [{name: statistics.median(values) for name, values in taken.items()} for taken in (wall, cpu)]
    return medians[0], medians[1]


def kernels(path: Path, optimised: Path) -> str:
    """How many nodes of each kind ONNX Runtime runs."""
    import onnx

    session(path, 1, optimised)
    counts = Counter(node.op_type for node in onnx.load(optimised).graph.node)
    return ", ".join(f"{kind} {count}" for kind, count in counts.most_common())


if __name__ == "__main__":
    main()
