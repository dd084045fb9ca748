"""Images a second of an evaluation: picoquant beside PaddleDetection, same weights and images.

    python benchmarks/eval_speed.py --dataset-dir ../shared/datasets/bccd --image-dir JPEGImages \\
        --anno instances_val.json --weights ../shared/weights/picodet_s_npu_bccd.pdparams --run output/bccd

PaddleDetection is measured where `import ppdet` works (`pip install --no-deps paddledet`, and what it
asks for). Each contender has a process of its own, and they take turns, pass by pass, so that a machine whose
speed drifts does so for both: reading, network, NMS and COCO's numbers of all images. A first pass is not
counted, nor is the time until the network is ready to be called, which is printed apart. Printed are the
median pass, with CPU seconds, and the median of the ratios of neighbouring passes. The mAP of both shows that
the same work was done. With `--run`, the folder of a run of these weights, its FP32 export and its INT8 model are
contenders, too: in ONNX Runtime, as stage `evaluate` runs them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from run_command import machine
from train_speed import ROOT

CONTENDERS = ("PaddleDetection", "picoquant")
STAGES = {"FP32 in ONNX": "export", "INT8 in ONNX": "quantize"}  # of a run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dataset-dir", required=True, help="folder of a COCO data set")
    parser.add_argument("--image-dir", default="val2017", help="its images")
    parser.add_argument("--anno", default="annotations/instances_val2017.json", help="its annotations")
    parser.add_argument("--weights", required=True, help=".pdparams of the network")
    parser.add_argument("--config", default="picodet_s_416_coco_npu.yml", help="a shipped configuration")
    parser.add_argument("--size", type=int, default=416, help="input height and width")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that read images")
    parser.add_argument("--passes", type=int, default=5, help="evaluations to measure")
    parser.add_argument("--run", help="a run folder whose models are measured, too")
    parser.add_argument("--only", choices=(*CONTENDERS, *STAGES), help="be one, told what to do on stdin")
    options = parser.parse_args()
    if options.only:
        answer(options)
        return
    print(f"{machine()}; {options.config}, batches of {options.batch} images of {options.size} pixels")
    contenders, rounds = [Contender(name) for name in (*CONTENDERS, *(STAGES if options.run else ()))], []
    contenders = [one for one in contenders if one.is_ready()]
    for number in range(1 + options.passes):
        passes = [one.run() for one in contenders]
        if number:
            rounds.append(passes)
    with open(os.path.join(options.dataset_dir, options.anno), encoding="utf-8") as stream:
        images = len(json.load(stream)["images"])
    for one, passes in zip(contenders, zip(*rounds)):
        wall, cpu = (statistics.median(entry[kind] for entry in passes) for kind in ("wall", "cpu"))
        print(
            f"{one.name:16} {images / wall:7.2f} images/s: {images} images in {wall:.2f} s ({cpu:.2f} s of CPU), "
            f"ready after {one.ready:.1f} s  mAP {passes[-1]['mAP']:.4f}"
        )
    for place, one in enumerate(contenders[1:], start=1):
        if contenders[0].name != CONTENDERS[0]:
            break
        ratios = {
            kind: [passes[0][kind] / passes[place][kind] for passes in rounds] for kind in ("wall", "cpu")
        }
        wall, cpu = (statistics.median(found) for found in ratios.values())
        low, high = min(ratios["wall"]), max(ratios["wall"])
        print(
            f"{one.name}: ratio {wall:.2f} by the clock ({low:.2f} to {high:.2f}), {cpu:.2f} by CPU seconds"
        )


class Contender:
    """A process that evaluates when it is told to."""

    def __init__(self, name: str) -> None:
        self.name, self.ready = name, 0.0
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  as long as the process
        self._process = subprocess.Popen(
            [sys.executable, __file__, *sys.argv[1:], "--only", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def is_ready(self) -> bool:
        """Wait until it can begin; False, with the reason printed, when it cannot."""
        try:
            self.ready = self._heard()["ready"]
        except ChildProcessError as error:
            print(f"{self.name:16} not measured: {error}", flush=True)
            return False
        return True

    def run(self) -> dict[str, float]:
        """One pass: `wall` and `cpu` seconds, `mAP`."""
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self._heard()

    def _heard(self) -> dict[str, float]:
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._process.wait()
        self._errors.seek(0)
        raise ChildProcessError((self._errors.read().strip() or "it said nothing").splitlines()[-1])


def answer(options: argparse.Namespace) -> None:
    """Be a contender: a pass for each line of stdin, its figures as a line of stdout."""
    from picoquant.utils.device import cpu_seconds

    said = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    began = time.perf_counter()
    prepare = {CONTENDERS[0]: paddledetection_pass, CONTENDERS[1]: picoquant_pass}.get(
        options.only, model_pass
    )
    with tempfile.TemporaryDirectory() as folder:
        run = prepare(options, folder)
        print(json.dumps({"ready": time.perf_counter() - began}), file=said)
        for _ in sys.stdin:
            began, used = time.perf_counter(), cpu_seconds()
            accuracy = run()
            taken = {"wall": time.perf_counter() - began, "cpu": cpu_seconds() - used}
            print(json.dumps({**taken, "mAP": accuracy}), file=said)


def classes(options: argparse.Namespace) -> int:
    """Number of categories in the annotations."""
    with open(os.path.join(options.dataset_dir, options.anno), encoding="utf-8") as stream:
        return len(json.load(stream)["categories"])


def paddledetection_pass(options: argparse.Namespace, folder: str) -> Callable[[], float]:
    """PaddleDetection's `tools/eval.py`: its trainer, network, loader and metrics."""
    import paddle
    from ppdet.core.workspace import load_config
    from ppdet.engine import Trainer
    from ppdet.engine.callbacks import Callback

    paddle.set_device("cpu")
    config = load_config(str(ROOT / "configs" / options.config))
    size = [options.size, options.size]
    config.update(num_classes=classes(options), worker_num=options.workers, use_gpu=False, eval_size=size)
    config.update(output_eval=folder, save_dir=folder)
    target, reader = config["EvalDataset"], config["EvalReader"]
    target.dataset_dir, target.image_dir = options.dataset_dir, options.image_dir
    target.anno_path = options.anno
    reader["batch_size"] = options.batch
    for step in reader["sample_transforms"]:
        if "Resize" in step:
            step["Resize"]["target_size"] = size
    trainer = Trainer(config, mode="eval")
    trainer.load_weights(options.weights)
    accuracy: list[float] = []

    class Listener(Callback):
        """Takes the mAP before the trainer forgets it."""

        def on_epoch_end(self, status: Any) -> None:
            accuracy.append(float(trainer._metrics[0].get_results()["bbox"][0]))

    trainer.register_callbacks([Listener(trainer)])

    def run() -> float:
        trainer.evaluate()
        return accuracy[-1]

    return run


def model_pass(options: argparse.Namespace, folder: str) -> Callable[[], float]:
    """A run's model in ONNX Runtime, as stage `evaluate` runs it."""
    from contextlib import ExitStack

    from picoquant.backends.paddle.runtime import decoder_for
    from picoquant.paddle_program.model_folder import ModelFolder
    from picoquant.stages.evaluating import evaluate_model, open_quickly

    model = ModelFolder.open(Path(options.run) / STAGES[options.only])
    if tuple(model.config.input_size) != (options.size, options.size):
        raise ValueError(
            f"{options.run} is of {list(model.config.input_size)} pixels, not of {options.size}: --size"
        )
    plan, images = images_of(options)
    opened = ExitStack()
    predict = opened.enter_context(open_quickly(model, "cpu"))
    decoder = decoder_for(predict, model.config, plan.nms)

    def run() -> float:
        return evaluate_model(predict, decoder, images).metrics["mAP"]

    run.opened = opened  # type: ignore[attr-defined]  as long as it
    return run


def images_of(options: argparse.Namespace) -> tuple[Any, Any]:
    """The plan of the configuration, and its evaluation images."""
    from picoquant.data.formats.load import load_dataset
    from picoquant.data.settings import DatasetSettings
    from picoquant.stages.evaluating import evaluation_images
    from picoquant.stages.plan import load_plan

    changes = [
        f"Global.input_size=[{options.size},{options.size}]",
        f"EvalReader.batch_size={options.batch}",
    ]
    plan = load_plan(options.config, changes)
    where = DatasetSettings(
        dataset_dir=options.dataset_dir, image_dir=options.image_dir, anno_path=options.anno
    )
    dataset = load_dataset(where, training=False)
    return plan, evaluation_images(dataset, plan.eval_reader, options.workers)


def picoquant_pass(options: argparse.Namespace, folder: str) -> Callable[[], float]:
    """picoquant's evaluation of a training: network compiled for Paddle's inference runtime."""
    from picoquant.backends.paddle.compiled import compiled_predictor
    from picoquant.postprocess.decoder import Decoder
    from picoquant.stages.evaluating import evaluate_model
    from picoquant.stages.model import load_trained

    plan, images = images_of(options)
    model = load_trained(plan, len(images.dataset.class_names), Path(options.weights))
    predict = compiled_predictor(model, [options.size, options.size])
    decoder = Decoder("boxes", plan.nms)

    def run() -> float:
        return evaluate_model(predict, decoder, images).metrics["mAP"]

    return run


if __name__ == "__main__":
    main()
