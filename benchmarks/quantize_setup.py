"""Set-up of QAT with distillation, and its steps: picoquant beside PaddleSlim's AutoCompression, same model.

    python benchmarks/quantize_setup.py --size 416 --batch 8

A step is measured in seconds on the clock and of CPU, memory as the largest resident size of the process. The last
lines are PaddleSlim's figures over picoquant's; with `--json` the last is the figures of every turn, which
benchmarks/speed reads. Each contender runs in a process of its own; one of them works at a time: they are set up one
after the other, run step 0, and then take turns of some steps. Medians are printed. `picoquant` trains as PaddleSlim
does, by the sections' loss and optimiser (`Quantize.training: configured`), `picoquant, levels` as the shipped recipe
does, from ranges that are all alike here: what a step takes does not depend on them.

Set-up is everything from an exported model on disk to the first step (the import of PaddleSlim included);
picoquant's calibration of ranges is left out of it, as PaddleSlim has none. Step 0 builds kernels, in picoquant also
the training graph. picoquant's set-up is measured in as many processes as there are turns, PaddleSlim's, which takes
minutes, in one. A contender that does not answer within the limit is stopped. The losses of step 0 differ by what
oneDNN rounds differently; without it they are equal (tests/quantization/test_same_as_paddleslim.py).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
PADDLESLIM, PICOQUANT, LEVELS = CONTENDERS = ("PaddleSlim", "picoquant", "picoquant, levels")
RANGE = 4.0  # of every tensor, for `LEVELS`
NAMES = {"model_filename": "model.pdmodel", "params_filename": "model.pdiparams"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=416, help="input height and width")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5, help="steps of a turn, after step 0")
    parser.add_argument("--turns", type=int, default=5, help="turns of each, and picoquant's set-ups")
    parser.add_argument("--json", action="store_true", help="print the figures of every turn")
    parser.add_argument("--pact", action="store_true", help="use_pact: true")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds a contender may take to answer")
    parser.add_argument("--config", default="picodet_s_416_coco_npu", help="a shipped configuration")
    parser.add_argument("--model", help="folder of an exported model; by default one with random weights")
    parser.add_argument("--only", choices=CONTENDERS, help="measure one and print JSON")
    parser.add_argument(
        "--served", action="store_true", help="with --only: a turn for each line that is read"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not options.model:
            options.model = folder
            subprocess.run([sys.executable, "-c", export_script(options)], check=True, capture_output=True)
        if options.only:
            print(json.dumps(measure(options)), flush=True)
            return
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Measure all in turns, and print."""
    from benchmarks.machine import busy_share

    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{options.config}, {options.batch} images of {options.size} pixels, use_pact {options.pact}")
    print(f"{platform.machine()}, {threads} CPUs, Python {platform.python_version()}", flush=True)
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    with ExitStack() as stack:
        contenders = {name: stack.enter_context(Contender(name, options)) for name in CONTENDERS}
        results = {name: one.answer() for name, one in contenders.items()}
        busy = 0.0
        for _ in range(options.turns):
            for name in CONTENDERS:
                if "failed" not in results[name]:
                    busy = max(busy, busy_share(1.0))
                    said = contenders[name].answer()
                    if "failed" in said:
                        results[name] = said
                        continue
                    turns[name].append({**results[name], **said})
    for turn in turns[PICOQUANT][1:]:  # each has a set-up of its own
        turn["setup"] = set_up(options)
    for name in CONTENDERS:
        if "failed" not in results[name]:
            results[name] = {key: middle(turns[name], key) for key in turns[name][0]}
        print(line(name, results[name]), flush=True)
    for name in (PICOQUANT, LEVELS):
        print(f"PaddleSlim / {name}: {ratios(results[PADDLESLIM], results[name])}")
    if options.json:
        failed = {name: found["failed"] for name, found in results.items() if "failed" in found}
        print(json.dumps({**turns, "failed": failed, "busy": busy}))


def middle(turns: list[dict[str, Any]], key: str) -> float:
    """The median of turns; of memory, the largest."""
    values = [turn[key] for turn in turns]
    return max(values) if key == "megabytes" else statistics.median(values)


def line(name: str, found: dict[str, Any]) -> str:
    """The figures of one contender."""
    if "failed" in found:
        return f"{name:17} {found['failed']}"
    return (
        f"{name:17} set-up {found['setup']:7.1f} s, step 0 {found['first']:5.1f} s  loss {found['loss']:.6g}  "
        f"{found['step']:6.2f} s a step, {found['cpu']:6.2f} s of CPU  at most {found['megabytes']:.0f} MB"
    )


def set_up(options: argparse.Namespace) -> float:
    """Seconds of another set-up of picoquant."""
    with Contender(PICOQUANT, options) as contender:
        return float(contender.answer()["setup"])


class Contender:
    """A contender in a process of its own: set-up and step 0 at the first `answer`, a turn at each later one.

    Args:
        name: of the contender.
        options: of this script.
    """

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self._command = [
            sys.executable,
            __file__,
            *sys.argv[1:],
            "--model",
            options.model,
            "--only",
            name,
            "--served",
        ]
        self._limit = options.limit
        self._lines: queue.Queue[str] = queue.Queue()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def answer(self) -> dict[str, Any]:
        """The figures of set-up and step 0, then of a turn; `failed` where there are none."""
        if self._process is None:
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(
                self._command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
            )
            threading.Thread(target=self._read, daemon=True).start()
        else:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        began = time.perf_counter()
        while True:
            try:
                text = self._lines.get(timeout=max(0.0, began + self._limit - time.perf_counter()))
            except queue.Empty:
                self._process.kill()
                return {"failed": f"no answer after {self._limit:.0f} s", "seconds": self._limit}
            if not text:
                return {"failed": f"not measured: run it with --only {self._command[-2]}"}
            if text.startswith('{"'):
                return json.loads(text)

    def _read(self) -> None:
        for text in self._process.stdout:
            self._lines.put(text)
        self._lines.put("")


def ratios(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    """How many times PaddleSlim needs what picoquant needs; at least, where it was stopped at its limit."""
    if "failed" in ours or ("failed" in theirs and "seconds" not in theirs):
        return "no ratio: one of them was not measured"
    if "failed" in theirs:
        return f"set-up more than {theirs['seconds'] / ours['setup']:.1f}"
    names = {"setup": "set-up", "step": "step", "cpu": "CPU of a step", "megabytes": "largest memory"}
    parts = [f"{title} {theirs[key] / ours[key]:.2f}" for key, title in names.items() if ours[key]]
    return ", ".join(parts)


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
        QatTrainSettings(train_iter=options.steps * options.turns + 1, learning_rate=1e-5),
    )
    shape = (options.batch, 3, options.size, options.size)
    image = np.random.RandomState(0).rand(*shape).astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "student"
        shutil.copytree(options.model, model)
        begin = {PADDLESLIM: paddleslim, PICOQUANT: configured, LEVELS: by_levels}[options.only]
        began = time.perf_counter()
        return begin(model, Path(folder), sections, image, partial(timed_steps, options, began))


def timed_steps(options: argparse.Namespace, began: float, step: Callable[[], Any]) -> dict[str, float]:
    """Run step 0, which builds kernels, and the steps that are measured."""
    setup = time.perf_counter() - began
    found = {"setup": setup, "loss": float(step())}
    found["first"] = time.perf_counter() - began - setup
    if options.served:
        print(json.dumps(found), flush=True)
        for _ in sys.stdin:
            print(json.dumps(timed(step, options.steps)), flush=True)
        return found
    return {**found, **timed(step, options.steps), "seconds": time.perf_counter() - began}


def timed(step: Callable[[], Any], count: int) -> dict[str, float]:
    """Run some steps; medians, and the largest memory so far."""
    clock, cpu = [], []
    for _ in range(count):
        start, used = time.perf_counter(), time.process_time()
        step()
        clock.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    found = {"step": statistics.median(clock), "cpu": statistics.median(cpu)} if count else {}
    return {**found, "megabytes": largest_memory()}


def largest_memory() -> float:
    """The largest resident size of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def configured(model: Path, folder: Path, sections: tuple, image: Any, measured: Callable[..., dict]) -> dict:
    """picoquant's set-up, and its steps with the teacher's part, by the sections' loss and optimiser."""
    from picoquant.quantization.engine.session import dygraph_session, quiet

    with quiet():
        from picoquant.quantization.qat.learning_rate import LearningRate
        from picoquant.quantization.qat.objective import ConfiguredObjective
        from picoquant.quantization.qat.optimisers import make_optimizer, make_schedule
    from picoquant.training.fast import tuned_cpu

    distillation, _, train = sections
    with tuned_cpu(), dygraph_session(), quiet():
        student, strategy = opened(model, sections, "configured")
        objective = ConfiguredObjective(student, distillation)
        rate = LearningRate(make_schedule(train))
        parts = student, strategy, objective, partial(make_optimizer, train), rate
        return measured(stepping(model, folder, image, *parts))


def by_levels(model: Path, folder: Path, sections: tuple, image: Any, measured: Callable[..., dict]) -> dict:
    """The same for `Quantize.training: levels`, whose student has its batch-norms folded."""
    import shutil

    from picoquant.quantization.engine.session import dygraph_session, quiet

    with quiet():
        from picoquant.paddle_program.batch_norm_folding import fold_folder
        from picoquant.paddle_program.infer_config import read_infer_config
        from picoquant.quantization.ptq.detection_error import DetectionError
        from picoquant.quantization.qat.learning_rate import LearningRate, warm_cosine
        from picoquant.quantization.qat.level_optimizer import LevelOptimizer, levels_of
        from picoquant.quantization.qat.objective import DetectionObjective
        from picoquant.quantization.qat.ranges import initialise_ranges
        from picoquant.quantization.settings import QuantizationSettings
    from picoquant.training.fast import tuned_cpu

    with tuned_cpu(), dygraph_session(), quiet():
        shutil.copytree(model, folder / "folded")
        fold_folder(folder / "folded")
        student, strategy = opened(folder / "folded", sections, "levels")
        ranges = dict.fromkeys(student.ranges, RANGE)
        initialise_ranges(student, ranges)
        objective = DetectionObjective(
            DetectionError(student.network, read_infer_config(model), of_scores=True)
        )
        optimizer = partial(LevelOptimizer, levels=levels_of(student, ranges))
        rate = LearningRate(warm_cosine(QuantizationSettings().level_rate, sections[-1].train_iter))
        return measured(stepping(model, folder, image, student, strategy, objective, optimizer, rate))


def opened(model: Path, sections: tuple, training: str) -> tuple[Any, Any]:
    """picoquant's student, and the strategy of its ranges."""
    from picoquant.int8.operators import quantizable_operators
    from picoquant.paddle_program.editing.program_model import ProgramModel
    from picoquant.quantization.engine.convolution import Convolutions
    from picoquant.quantization.qat.learned_ranges.choose import range_strategy
    from picoquant.quantization.qat.student import open_student
    from picoquant.quantization.settings import QuantizationSettings

    quant = sections[1]
    strategy = range_strategy(QuantizationSettings(training=training), quant)
    operators = quantizable_operators(ProgramModel.load(model), quant)
    onednn, by_levels = Convolutions(onednn=True), training == "levels"
    return open_student(model, operators, quant, strategy, onednn, all_held=by_levels), strategy


def stepping(
    model: Path, folder: Path, image: Any, student: Any, strategy: Any, objective: Any, *rest: Any
) -> Callable[[], float]:
    """picoquant's step on these images, the teacher's part included; it returns the loss."""
    from picoquant.paddle_program.infer_config import read_infer_config
    from picoquant.quantization.processes import Processes
    from picoquant.quantization.qat.step import TrainingStep
    from picoquant.quantization.qat.teacher import Teacher

    teacher = Teacher(model, objective.teacher_names, folder / "distilled", read_infer_config(model))
    optimizer, rate = rest
    run = TrainingStep(student, teacher, objective, optimizer, strategy, rate, Processes())
    return lambda: run({"image": image}, False, ())[0]


def paddleslim(model: Path, folder: Path, sections: tuple, image: Any, measured: Callable[..., dict]) -> dict:
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

    return measured(step)


if __name__ == "__main__":
    main()
