"""INT8 accuracy of official networks on hundreds of images: the table of docs/accuracy.md.

    python benchmarks/accuracy.py --shared ../shared --out runs/ --method ptq
    python benchmarks/accuracy.py --shared ../shared --out runs/ --method qat --steps 150 --only xs

For each network a whole run (`picoquant run`: export, quantisation with the shipped settings, evaluation of both
models on the same images), calibrated and trained on images that are not evaluated. What is finished in `--out` is not
done again. Printed are FP32's and INT8's mAP, their difference with its 95 % interval and fidelity with its own
(`picoquant/evaluation/paired.py`, `fidelity.py`), the evaluations of training, whether any step was taken back, and how
long quantisation took, its evaluations included; the same goes to `accuracy.json` in `--out`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from run_command import run_command

RECIPE = "picodet_s_qat_dis"


@dataclass(frozen=True)
class Network:
    """A trained network and its images.

    Attributes:
        title: in the table.
        config: a shipped configuration.
        weights: file in `weights/` of the shared folder.
        size: input height and width, pixels.
        train, val: data set, folder of images and annotation file, in `datasets/` of the shared folder.
    """

    title: str
    config: str
    weights: str
    size: int
    train: tuple[str, str, str]
    val: tuple[str, str, str]


_COCO = {
    "train": ("coco600", "images", "instances.json"),
    "val": ("coco465", "images", "instances.json"),
}
_BCCD = {
    "train": ("bccd", "JPEGImages", "instances_train.json"),
    "val": ("bccd", "JPEGImages", "instances_val.json"),
}
NETWORKS = {
    "xs": Network(
        "PicoDet-XS 320 (LCNet, 2022)",
        "picodet_xs_320_coco_lcnet.yml",
        "picodet_xs_320_coco_lcnet.pdparams",
        320,
        **_COCO,
    ),
    "es": Network(
        "PicoDet-S 320 (ESNet, 2021.10)",
        "legacy_model/picodet_s_320_coco.yml",
        "picodet_s_320_coco.pdparams",
        320,
        **_COCO,
    ),
    "npu": Network(
        "PicoDet-S-NPU 320, BCCD",
        "picodet_s_416_coco_npu.yml",
        "picodet_s_npu_bccd.pdparams",
        320,
        **_BCCD,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="folder with weights/ and datasets/")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--method", choices=("ptq", "qat"), default="ptq")
    parser.add_argument("--steps", type=int, default=150, help="of QAT")
    parser.add_argument("--evaluate-every", type=int, default=50, help="steps of QAT between two evaluations")
    parser.add_argument("--only", action="append", choices=list(NETWORKS), help="repeatable")
    parser.add_argument("--set", action="append", default=[], dest="changes", metavar="KEY=VALUE")
    options = parser.parse_args()
    rows = []
    for name in options.only or NETWORKS:
        folder = options.out.resolve() / f"{name}_{options.method}"
        run(NETWORKS[name], folder, options)
        rows.append({"network": NETWORKS[name].title, "method": options.method, **row_of(folder)})
        print(text_of(rows[-1]), flush=True)
    (options.out / "accuracy.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def run(network: Network, folder: Path, options: Any) -> None:
    """The whole run of a network, in a process of its own; its output goes to the run's log."""
    shared = options.shared.resolve()
    changes = [
        f"Global.config={network.config}",
        f"Global.weights={shared / 'weights' / network.weights}",
        f"Global.input_size=[{network.size},{network.size}]",
        f"Quantize.method={options.method}",
    ]
    if options.method == "qat":
        changes += [
            f"TrainConfig.train_iter={options.steps}",
            f"TrainConfig.eval_iter={options.evaluate_every}",
        ]
    for section, (data, images, listed) in (("Train", network.train), ("Eval", network.val)):
        changes += [
            f"{section}Dataset.dataset_dir={shared / 'datasets' / data}",
            f"{section}Dataset.image_dir={images}",
            f"{section}Dataset.anno_path={listed}",
        ]
    command = run_command(RECIPE, folder, "evaluate", [*changes, *options.changes])
    subprocess.run(command, check=True)


def row_of(folder: Path) -> dict[str, Any]:
    """The numbers of a finished run."""
    from picoquant.evaluation.fidelity import fidelity
    from picoquant.evaluation.paired import paired
    from picoquant.stages import datasets
    from picoquant.stages.plan import load_plan
    from picoquant.stages.stage import Context
    from picoquant.storage.run_folder import RunFolder

    run_folder = RunFolder(folder)
    dataset = datasets.load(
        Context(load_plan(str(folder / "config.yml"), ()), run_folder, "cpu"), "EvalDataset"
    )
    truth, ids = dataset.ground_truth(), dataset.image_ids
    found = [
        dataset.with_ids_here(json.loads((folder / "evaluate" / f"detections_{name}.json").read_text()))
        for name in ("fp32", "int8")
    ]
    difference, agreement = paired(truth, *found, ids), fidelity(truth, *found, ids)
    evaluated = run_folder.record("evaluate")["metrics"]
    quantised = run_folder.record("quantize")
    return {
        "images": len(ids),
        "fp32": evaluated["fp32"]["mAP"],
        "int8": evaluated["int8"]["mAP"],
        "difference": [difference.difference, difference.low, difference.high],
        "fidelity": [agreement.value, agreement.low, agreement.high],
        "evaluations": quantised["metrics"].get("evaluations", []),
        "rollbacks": len(quantised["metrics"].get("rollbacks", [])),
        "seconds": quantised["seconds"],
    }


def text_of(row: dict[str, Any]) -> str:
    """A row of the table."""
    difference, low, high = row["difference"]
    agreement, least, most = row["fidelity"]
    cells = [
        row["network"],
        f"{row['images']} images",
        f"{row['fp32']:.4f}",
        f"{row['int8']:.4f}",
        f"{difference:+.4f}, {low:+.4f} to {high:+.4f}",
        f"{agreement:.3f}, {least:.3f} to {most:.3f}",
        ", ".join(f"{value:.4f} after {step}" for step, value, *_ in row["evaluations"]) or "no training",
        f"{row['rollbacks']} taken back",
        f"{row['seconds']:.0f} s",
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
