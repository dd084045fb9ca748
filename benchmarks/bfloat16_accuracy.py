"""Training in 32-bit floats and in bfloat16, seed by seed: the mAP of BCCD after fine-tuning.

    python benchmarks/bfloat16_accuracy.py --shared ../shared --out runs/ --seeds 0,1,2,3

XS starts from its COCO weights, S-NPU from weights of BCCD; both are trained for 8 epochs of 12 steps at 288 to 352 px
and evaluated at 320 px, with nothing but `Train.amp` between the two. What is finished in `--out` is not done again.
Printed are a row for each network and number format, and the mean difference with its 95 % interval (Student's t over
the seeds).
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

EPOCHS, SIZE = 8, 320
NETWORKS = {
    "XS": ("picodet_xs_320_coco_lcnet.yml", "picodet_xs_320_coco_lcnet.pdparams"),
    "S-NPU": ("picodet_s_416_coco_npu.yml", "picodet_s_npu_bccd.pdparams"),
}
FORMATS = {"32-bit floats": "false", "bfloat16": "true"}
_T = {
    1: 12.706,
    2: 4.303,
    3: 3.182,
    4: 2.776,
    5: 2.571,
    6: 2.447,
    7: 2.365,
}  # two-sided 95 %, by degrees of freedom


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="the shared material")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument(
        "--seeds", type=lambda text: [int(one) for one in text.split(",")], default=[0, 1, 2, 3]
    )
    options = parser.parse_args()
    print("| network | numbers | " + " | ".join(f"seed {seed}" for seed in options.seeds) + " |")
    for network in NETWORKS:
        found = {}
        for name in FORMATS:
            found[name] = [mean_average_precision(network, name, seed, options) for seed in options.seeds]
            print(
                f"| {network} | {name} | " + " | ".join(f"{one:.4f}" for one in found[name]) + " |",
                flush=True,
            )
        print(
            f"{network}: bfloat16 less floats {interval(*(found[name] for name in reversed(FORMATS)))}",
            flush=True,
        )


def mean_average_precision(network: str, numbers: str, seed: int, options: argparse.Namespace) -> float:
    """Of the last evaluation, 0 to 1; trained where that was not done yet."""
    config, weights = NETWORKS[network]
    folder = options.out.resolve() / f"{network}-{FORMATS[numbers]}-{seed}"
    rows = folder / "train" / "evaluations.csv"
    if not rows.is_file():
        shared = options.shared.resolve()
        data = shared / "datasets" / "bccd"
        settings = [
            f"pretrain_weights={shared / 'weights' / weights}", f"epoch={EPOCHS}", f"snapshot_epoch={EPOCHS // 2}",
            "worker_num=1", "LearningRate.base_lr=0.05", f"LearningRate.schedulers.0.max_epochs={EPOCHS}",
            "LearningRate.schedulers.1.steps=12", "TrainReader.batch_size=16", f"Global.seed={seed}",
            f"Train.amp={FORMATS[numbers]}",
            "TrainReader.sample_transforms=[{Decode: {}}, {RandomFlip: {prob: 0.5}}]",
            "TrainReader.batch_transforms.0.BatchRandomResize.target_size=[288, 320, 352]",
        ]  # fmt: skip
        for section, part in (("TrainDataset", "train"), ("EvalDataset", "val")):
            settings += [f"{section}.dataset_dir={data}", f"{section}.image_dir=JPEGImages",
                         f"{section}.anno_path=instances_{part}.json"]  # fmt: skip
        command = [sys.executable, "-m", "picoquant", "train", "--config", config, "--save-dir", str(folder)]
        command += ["--input-size", str(SIZE), *settings]
        subprocess.run(command, check=True, capture_output=True)
    with rows.open(encoding="utf-8") as stream:
        return float(list(csv.DictReader(stream))[-1]["mAP"])


def interval(those: Sequence[float], others: Sequence[float]) -> str:
    """Mean difference of pairs, with its 95 % interval."""
    differences = [one - other for one, other in zip(those, others)]
    mean = statistics.mean(differences)
    if len(differences) < 2:
        return f"{mean:+.4f}"
    half = _T[min(len(differences) - 1, max(_T))] * statistics.stdev(differences) / len(differences) ** 0.5
    return f"{mean:+.4f} [{mean - half:+.4f}, {mean + half:+.4f}]"


if __name__ == "__main__":
    main()
