"""Images a second of an evaluation: picoquant beside PaddleDetection, same weights and images.

    python benchmarks/eval_speed.py --dataset-dir ../shared/datasets/bccd --image-dir JPEGImages \\
        --anno instances_val.json --weights ../shared/weights/picodet_s_npu_bccd.pdparams

PaddleDetection is measured where `import ppdet` works (`pip install --no-deps paddledet`, and what it
asks for). Each contender runs in a process of its own: reading, network, NMS and COCO's numbers of all
images. A first pass is not counted, nor is the time until the network is ready to be called, which is
printed apart. The median pass is printed, with CPU seconds, which other work on the machine disturbs less. The
mAP of both shows that the same work was done.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

from train_speed import ROOT, measured_apart

CONTENDERS = ("PaddleDetection", "picoquant")


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
    parser.add_argument("--passes", type=int, default=3, help="evaluations to measure")
    parser.add_argument("--only", choices=CONTENDERS, help="measure one and print JSON")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options)))
        return
    print(f"{options.config}, batches of {options.batch} images of {options.size} pixels")
    walls, cpus = [], []
    for name in CONTENDERS:
        found = measured_apart(name, __file__)
        if "failed" in found:
            print(f"{name:16} not measured: {found['failed']}", flush=True)
            continue
        walls.append(found["wall"])
        cpus.append(found["cpu"])
        print(
            f"{name:16} {found['images'] / walls[-1]:7.2f} images/s: {found['images']} images in "
            f"{walls[-1]:.2f} s ({cpus[-1]:.2f} s of CPU), ready after {found['ready']:.1f} s  "
            f"mAP {found['mAP']:.4f}",
            flush=True,
        )
    if len(walls) == len(CONTENDERS):
        print(f"ratio {walls[0] / walls[1]:.2f} by the clock, {cpus[0] / cpus[1]:.2f} by CPU seconds")


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Images, median wall and CPU seconds of a pass, seconds until the network was ready, and mAP."""
    import picoquant  # noqa: F401  zlib before paddle

    began = time.perf_counter()
    prepare = paddledetection_pass if options.only == "PaddleDetection" else picoquant_pass
    with tempfile.TemporaryDirectory() as folder:
        run = prepare(options, folder)
        ready, taken = time.perf_counter() - began, []
        for _ in range(1 + options.passes):
            began, used = time.perf_counter(), cpu_seconds()
            accuracy = run()
            taken.append((time.perf_counter() - began, cpu_seconds() - used))
    wall, cpu = (statistics.median(column) for column in zip(*taken[1:]))
    with open(os.path.join(options.dataset_dir, options.anno), encoding="utf-8") as stream:
        images = len(json.load(stream)["images"])
    return {"images": images, "wall": wall, "cpu": cpu, "ready": ready, "mAP": accuracy}


def cpu_seconds() -> float:
    """CPU seconds of this process and of its children that have ended: those that read images do."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


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


def picoquant_pass(options: argparse.Namespace, folder: str) -> Callable[[], float]:
    """picoquant's evaluation of a training: network compiled for Paddle's inference runtime."""
    from picoquant.config.data import reader_settings
    from picoquant.config.detector import parse_detector
    from picoquant.config.recipe import load_recipe
    from picoquant.data.load import load_dataset
    from picoquant.data.reader import EvalReader
    from picoquant.data.settings import DatasetSettings
    from picoquant.evaluation.compiled import compiled_predictor
    from picoquant.evaluation.evaluate import evaluate
    from picoquant.postprocess.decoder import Decoder
    from picoquant.stages.model import load_trained

    changes = [
        f"Global.input_size=[{options.size},{options.size}]",
        f"EvalReader.batch_size={options.batch}",
    ]
    recipe = load_recipe(options.config, changes)
    where = DatasetSettings(
        dataset_dir=options.dataset_dir, image_dir=options.image_dir, anno_path=options.anno
    )
    dataset = load_dataset(where, training=False)
    model = load_trained(recipe, len(dataset.class_names), options.weights)
    predict = compiled_predictor(model, [options.size, options.size])
    decoder = Decoder("boxes", parse_detector(recipe.document).head.nms)
    settings = reader_settings(recipe, "EvalReader")

    def run() -> float:
        with EvalReader(dataset, settings, options.workers) as reader:
            return evaluate(predict, decoder, dataset, reader).metrics["mAP"]

    return run


if __name__ == "__main__":
    main()
