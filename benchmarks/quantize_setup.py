"""Set-up of QAT with distillation, and its steps: picoquant beside PaddleSlim's AutoCompression, same model.

    python benchmarks/quantize_setup.py --size 416 --batch 8 --limit 1200

A step is measured in seconds on the clock and of CPU, memory as the largest resident size of the process. The last
line is PaddleSlim's figures over picoquant's.

Set-up is everything from an exported model on disk to the first step (the import of PaddleSlim included);
picoquant's calibration of ranges is left out of it, as PaddleSlim has none. Each contender runs in a process of
its own and is stopped at the time limit. The losses of step 0 differ by what oneDNN rounds differently; without it
they are equal (tests/quantization/test_same_as_paddleslim.py).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
CONTENDERS = ("PaddleSlim", "picoquant")
NAMES = {"model_filename": "model.pdmodel", "params_filename": "model.pdiparams"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=416, help="input height and width")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5, help="steps to measure after step 0")
    parser.add_argument("--pact", action="store_true", help="use_pact: true")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds each contender may take")
    parser.add_argument("--config", default="picodet_s_416_coco_npu", help="a shipped configuration")
    parser.add_argument("--model", help="folder of an exported model; by default one with random weights")
    parser.add_argument("--only", choices=CONTENDERS, help="measure one and print JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not options.model:
            options.model = folder
            subprocess.run([sys.executable, "-c", export_script(options)], check=True, capture_output=True)
        if options.only:
            print(json.dumps(measure(options)))
            return
        print(f"{options.config}, {options.batch} images of {options.size} pixels, use_pact {options.pact}")
        results = {}
        for name in CONTENDERS:
            found = results[name] = measured_apart(name, options)
            if "failed" in found:
                print(f"{name:12} {found['failed']}", flush=True)
                continue
            step = f"{found['step']:6.2f} s a step, {found['cpu']:6.2f} s of CPU" if found["step"] else ""
            print(
                f"{name:12} set-up {found['setup']:7.1f} s  loss {found['loss']:.6g}  {step}  "
                f"at most {found['megabytes']:.0f} MB",
                flush=True,
            )
        print(ratios(*(results[name] for name in CONTENDERS)))


def ratios(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    """How many times PaddleSlim needs what picoquant needs; at least, where it was stopped at its limit."""
    if "failed" in ours or ("failed" in theirs and "seconds" not in theirs):
        return "no ratio: one of them was not measured"
    if "failed" in theirs:
        return f"PaddleSlim / picoquant: all of it more than {theirs['seconds'] / ours['seconds']:.1f}"
    names = {"setup": "set-up", "step": "step", "cpu": "CPU of a step", "megabytes": "largest memory"}
    parts = [f"{title} {theirs[key] / ours[key]:.2f}" for key, title in names.items() if ours[key]]
    return f"PaddleSlim / picoquant: {', '.join(parts)}"


def export_script(options: argparse.Namespace) -> str:
    """Python that exports the network; in a process of its own, as it must not be in static mode."""
    return f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from picoquant import build_detector
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.export.paddle_export import export_model
import numpy as np
size = ({options.size}, {options.size})
labels = tuple(str(number) for number in range(80))
detector = build_detector({options.config!r}, num_classes=80)
random = np.random.RandomState(0)
for value in detector.state_dict().values():
    if value.ndim == 4:  # weights that keep the size of what they are given
        spread = (2 / np.prod(value.shape[1:])) ** 0.5
        value.set_value((random.randn(*value.shape) * spread).astype("float32"))
export_model(detector, {options.model!r}, "raw", size, InferConfig(size, labels))
"""


def measured_apart(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one contender in its own process."""
    command = [sys.executable, __file__, *sys.argv[1:], "--model", options.model, "--only", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=options.limit, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not at its end after {options.limit:.0f} s", "seconds": options.limit}
    if done.returncode:
        return {"failed": f"not measured: {done.stderr.strip().splitlines()[-1]}"}
    return json.loads(done.stdout.splitlines()[-1])


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Seconds of set-up and of a step, and the loss of step 0."""
    import shutil

    import numpy as np

    import picoquant  # noqa: F401  zlib before paddle
    from picoquant.int8.scheme import QuantAwareSettings
    from picoquant.quantization.settings import DistillationSettings, QatTrainSettings

    sections = (
        DistillationSettings(),
        QuantAwareSettings(use_pact=options.pact),
        QatTrainSettings(train_iter=options.steps + 1, learning_rate=1e-5),
    )
    shape = (options.batch, 3, options.size, options.size)
    image = np.random.RandomState(0).rand(*shape).astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "student"
        shutil.copytree(options.model, model)
        begin = paddleslim if options.only == "PaddleSlim" else ours
        began = time.perf_counter()
        return begin(model, Path(folder), sections, image, began, options.steps)


def timed_steps(step: Callable[[], Any], steps: int, began: float) -> dict[str, float]:
    """Run step 0, which builds kernels, and the steps that are measured."""
    setup = time.perf_counter() - began
    loss, seconds, cpu = float(step()), [], []
    for _ in range(steps):
        start, used = time.perf_counter(), time.process_time()
        step()
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    return {
        "seconds": time.perf_counter() - began,
        "setup": setup,
        "loss": loss,
        "step": statistics.median(seconds) if seconds else 0.0,
        "cpu": statistics.median(cpu) if cpu else 0.0,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def ours(model: Path, folder: Path, sections: tuple, image: Any, began: float, steps: int) -> dict:
    """picoquant's set-up, and its steps with the teacher's part."""
    from picoquant.paddle_program.infer_config import read_infer_config
    from picoquant.quantization.engine.session import dygraph_session, quiet

    with quiet():
        from picoquant.int8.operators import quantizable_operators
        from picoquant.paddle_program.editing.program_model import ProgramModel
        from picoquant.quantization.engine.convolution import Convolutions
        from picoquant.quantization.processes import Processes
        from picoquant.quantization.qat.learned_ranges.choose import range_strategy
        from picoquant.quantization.qat.learning_rate import LearningRate
        from picoquant.quantization.qat.objective import ConfiguredObjective
        from picoquant.quantization.qat.optimisers import make_optimizer, make_schedule
        from picoquant.quantization.qat.step import TrainingStep
        from picoquant.quantization.qat.student import open_student
        from picoquant.quantization.qat.teacher import Teacher
        from picoquant.quantization.settings import QuantizationSettings
    from picoquant.training.fast import tuned_cpu

    distillation, quant, train = sections
    with tuned_cpu(), dygraph_session(), quiet():
        strategy = range_strategy(QuantizationSettings(), quant)
        operators = quantizable_operators(ProgramModel.load(model), quant)
        student = open_student(model, operators, quant, strategy, Convolutions(onednn=True))
        objective = ConfiguredObjective(student, distillation)
        config = read_infer_config(model)
        teacher = Teacher(model, objective.teacher_names, folder / "distilled", config)
        optimizer, rate = partial(make_optimizer, train), LearningRate(make_schedule(train))
        run = TrainingStep(student, teacher, objective, optimizer, strategy, rate, Processes())
        return timed_steps(lambda: run({"image": image}, False, ())[0], steps, began)


def paddleslim(model: Path, folder: Path, sections: tuple, image: Any, began: float, steps: int) -> dict:
    """AutoCompression as it is; with PACT it writes into the working folder."""
    import os

    os.chdir(folder)
    from paddleslim.auto_compression import AutoCompression
    from paddleslim.common.load_model import load_inference_model

    names = ("Distillation", "QuantAware", "TrainConfig")
    config = {name: section.to_paddleslim() for name, section in zip(names, sections)}
    out = str(folder / "out")
    built = AutoCompression(str(model), lambda: iter([{}]), save_dir=out, config=config, **NAMES)
    loaded = load_inference_model(str(model), executor=built._exe, **NAMES)
    strategy = built._strategy[0], built._config[0], built.train_config[0]
    train, _ = built._prepare_program(*loaded, None, *strategy)

    def step() -> float:
        return built._exe.run(train.program, feed={"image": image}, fetch_list=train.fetch_targets)[0]

    return timed_steps(step, steps, began)


if __name__ == "__main__":
    main()
