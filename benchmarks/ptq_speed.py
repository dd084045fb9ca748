"""Post-training quantisation as a whole: the stage beside ONNX Runtime's own quantiser, same network and images.

    python benchmarks/ptq_speed.py --dataset-dir ../shared/datasets/bccd --image-dir JPEGImages \\
        --train instances_train.json --val instances_val.json --weights ../shared/weights/picodet_s_npu_bccd.pdparams

The network is exported once. Then both take turns, each in a process of its own, so that a machine whose speed drifts
does so for both: picoquant's stage `quantize` (reading 64 images, all passes, the INT8 model written, checked and
evaluated), and `onnxruntime.quantization.quantize_static` of the export's ONNX form with the same images (its shape
inference and optimisation before it included; no evaluation of its own). A first round is not counted. Printed are the
medians by the clock and of CPU seconds, with what of it starting a process and importing takes, and the mAP that both
models have in ONNX Runtime.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from run_command import add_data, machine, run_command  # noqa: E402  a script's neighbour

CONTENDERS = ("ONNX Runtime", "picoquant")


def main() -> None:
    """Export, take turns, print."""
    options = arguments().parse_args()
    if options.only:
        print(json.dumps(onnx_runtime(Path(options.only), settings(options))))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        subprocess.run(run_command(options.config, folder, "export", settings(options)), check=True)
        rounds: list[dict[str, dict[str, float]]] = []
        for number in range(1 + options.rounds):
            found = {"ONNX Runtime": theirs(folder), "picoquant": ours(folder, options)}
            if number:
                rounds.append(found)
                print(
                    " ".join(f"{one}: {seconds['wall']:.1f} s" for one, seconds in found.items()), flush=True
                )
    print(f"{machine()}; {options.config}, {options.size} pixels, medians of {len(rounds)} turns")
    for one in CONTENDERS:
        median = {key: statistics.median(row[one][key] for row in rounds) for key in rounds[0][one]}
        print(f"{one:14} " + "  ".join(f"{key} {value:.4g}" for key, value in median.items()))


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add_data(parser)
    parser.add_argument("--config", default="picodet_s_qat_dis.yaml", help="a recipe")
    parser.add_argument("--size", type=int, default=416, help="input height and width")
    parser.add_argument("--count", type=int, default=64, help="calibration images")
    parser.add_argument("--rounds", type=int, default=5, help="turns to measure")
    parser.add_argument("--only", help="a run folder: quantise its export with ONNX Runtime, print JSON")
    return parser


def settings(options: argparse.Namespace) -> list[str]:
    """The recipe's changes, as `KEY.SUB=VALUE` texts."""
    data = [
        f"{section}.{key}={value}"
        for section, annotations in (("TrainDataset", options.train), ("EvalDataset", options.val))
        for key, value in (
            ("dataset_dir", os.path.abspath(options.dataset_dir)),
            ("image_dir", options.image_dir),
            ("anno_path", annotations),
        )
    ]
    weights = os.path.abspath(options.weights)
    return [
        f"Global.weights={weights}",
        f"Global.input_size=[{options.size},{options.size}]",
        "Quantize.method=ptq",
        f"Calibration.count={options.count}",
        *data,
    ]


def taken(command: Iterable[str]) -> tuple[dict[str, float], str]:
    """Seconds of a process by the clock and of CPU, and what it printed."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(list(command), check=True, stdout=subprocess.PIPE, text=True)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "cpu": cpu}, done.stdout


def ours(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """picoquant's stage, from the run folder's export."""
    command = run_command(options.config, folder, "quantize", settings(options))
    found, _ = taken([*command, "--from", "quantize", "--force"])
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))["stages"]["quantize"]
    return {
        **found,
        "stage": record["seconds"],
        "CPU of the stage": record["cpu_seconds"],
        "mAP": record["metrics"]["mAP"],
    }


def theirs(folder: Path) -> dict[str, float]:
    """ONNX Runtime's quantiser, from the same export."""
    found, printed = taken([sys.executable, __file__, *sys.argv[1:], "--only", str(folder)])
    own = json.loads(printed.splitlines()[-1])
    own["wall"] = found["wall"] - own.pop("around")
    own["cpu"] = found["cpu"] - own.pop("CPU around")
    return own


def onnx_runtime(folder: Path, changes: list[str]) -> dict[str, float]:
    """Quantise an export with ONNX Runtime, and evaluate the result, which is not counted."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from picoquant.backends.onnx.export import write_onnx_form
    from picoquant.backends.onnx.runtime import OnnxPredictor
    from picoquant.backends.paddle.runtime import decoder_for
    from picoquant.backends.source import Source
    from picoquant.data.readers.reader import EvalReader
    from picoquant.paddle_program.model_folder import ModelFolder
    from picoquant.paddle_program.network_input import select_inputs
    from picoquant.stages import datasets
    from picoquant.stages.evaluating import evaluate_model, evaluation_images
    from picoquant.stages.plan import load_plan
    from picoquant.stages.stage import Context
    from picoquant.utils.device import cpu_seconds

    around, used = time.monotonic(), cpu_seconds()
    plan = load_plan("picodet_s_qat_dis.yaml", changes)
    context, exported = Context(plan, None, "cpu"), ModelFolder.open(folder / "export")
    float_model, quantised = (folder.parent / name for name in ("float.onnx", "int8.onnx"))
    write_onnx_form(Source(exported), float_model)  # the form that is quantised is not the quantiser's work
    around, used = time.monotonic() - around, cpu_seconds() - used
    reader = plan.eval_reader_of(exported.config)
    images = EvalReader(datasets.calibration_images(context), reader, plan.workers)
    names = OnnxPredictor(float_model).input_names

    class Images(CalibrationDataReader):
        """The images that picoquant calibrates on, one by one."""

        def __init__(self) -> None:
            self._feeds = (
                {name: value[index : index + 1] for name, value in select_inputs(batch, names).items()}
                for batch in images
                for index in range(len(batch["image"]))
            )

        def get_next(self) -> Any:
            return next(self._feeds, None)

    quant_pre_process(str(float_model), str(float_model), skip_symbolic_shape=True)
    quantize_static(
        str(float_model), str(quantised), Images(), per_channel=True,
        weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8,
    )  # fmt: skip
    evaluating, of_that = time.monotonic(), cpu_seconds()
    predict = OnnxPredictor(quantised, at_once=os.cpu_count() or 1)
    held_out = evaluation_images(datasets.load(context, "EvalDataset"), reader, plan.workers)
    found = evaluate_model(predict, decoder_for(predict, exported.config, plan.nms), held_out)
    return {
        "mAP": found.metrics["mAP"],
        "around": around + time.monotonic() - evaluating,
        "CPU around": used + cpu_seconds() - of_that,
    }


if __name__ == "__main__":
    main()
