"""A training that any number of processes can share; as a script, `several.py FOLDER {"key": value}`.

Keys: `batch_size` of each process, `norm` (`frozen`, `own`, `joint`), `teacher`, and those of `TrainSettings`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import picoquant  # isort: skip  (zlib before paddle)
import paddle

from picoquant.cli.console import run_to_exit
from picoquant.data.formats.load import load_dataset
from picoquant.data.formats.synthetic import SyntheticSet, write_synthetic
from picoquant.data.readers.reader import TrainReader
from picoquant.data.settings import ReaderSettings
from picoquant.training.loop import train
from picoquant.utils.device import rank_and_world
from picoquant.utils.ranks import together
from tests.training import tiny
from tests.training.taught import with_teacher

IMAGES, EPOCHS = 24, 4
READER = {**tiny.EVAL_READER, "shuffle": True, "drop_last": True}
READER["batch_transforms"] = [{"PadGT": {}}]


def settle(model: paddle.nn.Layer, image: paddle.Tensor) -> None:
    """Give the batch norms statistics that fit `image`, so that the network can do with them frozen.

    The variances are twice those of the image, and of no channel less than the mean: an untrained
    network on so small an image has channels that hardly vary, which would blow rounding errors up.
    """
    norms = [layer for layer in model.sublayers() if isinstance(layer, paddle.nn.BatchNorm2D)]
    momenta = [layer._momentum for layer in norms]
    for layer in norms:
        layer._momentum = 0.0
    model.train()
    model.raw(image)
    for layer, momentum in zip(norms, momenta):
        layer._momentum = momentum
        mean = float(layer._variance.mean())
        layer._variance.set_value(2 * layer._variance.clip(min=mean))


def run(folder: Path, batch_size: int, norm: str = "frozen", teacher: bool = False, **changes: Any) -> None:
    """Train in `folder`/work (of the leading process) on images in `folder`/../images, which must be there."""
    rank, world = rank_and_world()
    images = write_images(folder.parent)
    dataset = load_dataset(images, True)
    paddle.seed(1 + rank)  # the processes must agree all the same
    model = picoquant.build_detector(tiny.CONFIG, len(dataset.class_names))
    whole = TrainReader(
        dataset, ReaderSettings.from_mapping({**READER, "batch_size": 8}, "TrainReader"), 5, 0
    )
    settle(model, paddle.to_tensor(next(whole.epoch(0))["image"]))
    if teacher:
        model = with_teacher(model)
        mask = model.adaptation[0].student_mask.weight
        mask.set_value(mask + rank)  # as the network's own, above
    changes.setdefault("base_lr", 0.01)
    values = {
        "epochs": EPOCHS,
        "freeze_batch_norm": norm == "frozen",
        "sync_bn": norm == "joint",
        "ema": None,
        **changes,
    }
    reader = ReaderSettings.from_mapping({**READER, "batch_size": batch_size}, "TrainReader")
    with TrainReader(dataset, reader, 5, 0, shard=(rank, world)) as mine:
        train(model, mine, tiny.settings(**values), folder / ("work" if rank == 0 else "other"))
    (folder / f"end_{rank}.json").write_text(
        json.dumps({name: float(value.sum()) for name, value in model.named_parameters()})
    )


def write_images(folder: Path) -> Any:
    """The data set's settings; written by the first call."""
    return write_synthetic(
        folder / "images",
        SyntheticSet(train_images=IMAGES, val_images=1, image_size=64, empty=0.0),
    )[0]


def main() -> int:
    """As the command line does it: an error is one line."""
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    with together("cpu"):
        run(Path(sys.argv[1]), **json.loads(sys.argv[2]))
    return 0


if __name__ == "__main__":
    sys.exit(run_to_exit(main, debug=False))
