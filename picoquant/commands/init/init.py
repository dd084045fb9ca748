"""`picoquant init`: look at a data set and at the machine, and write the recipe that fits both."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from picoquant.commands.data.check import CheckResult, collected
from picoquant.commands.data.sources import SHORT, Sources
from picoquant.commands.data.split import split
from picoquant.commands.init.choices import Schedule, choose_input_size, choose_schedule
from picoquant.commands.init.machine import Machine
from picoquant.commands.init.text import Facts, recipe_text
from picoquant.config.recipe import DEFAULT_DETECTOR
from picoquant.data.dataset import Dataset
from picoquant.data.input_size import largest_input
from picoquant.data.inspection.statistics import NetworkInput, Objects
from picoquant.data.settings import DatasetSettings
from picoquant.errors import ConfigError, DataError, UserError
from picoquant.stages.plan import load_plan
from picoquant.storage.files import write_text
from picoquant.targets.profiles import load_targets
from picoquant.utils.progress import duration

_TRIAL = (
    "epoch=1", "snapshot_epoch=1", "TrainConfig.train_iter=4", "TrainConfig.eval_iter=4",
    "Calibration.count=16",
)  # fmt: skip


@dataclass(frozen=True)
class Written:
    """What `write_recipe` made.

    Attributes:
        path: the recipe.
        result: the data sets, as the network sees them at that input size.
        input_size: side of its square input, pixels.
        schedule: how it trains.
        targets: names of the NPUs.
        run: the next command, as a shell takes it.
    """

    path: Path
    result: CheckResult
    input_size: int
    schedule: Schedule
    targets: tuple[str, ...]
    run: str

    def to_text(self) -> str:
        """For a person: what it is, how long it takes, the next command."""
        schedule, (train, held_out) = self.schedule, self.result.datasets.values()
        short = [] if schedule.fits else [f"memory is short: a batch takes {schedule.why_batch}"]
        return "\n".join(
            [
                *short,
                f"{self.path}: {train.num_classes} classes, {len(train)} images to train on and {len(held_out)} to "
                f"evaluate on, input {self.input_size}x{self.input_size}, {schedule.epochs} epochs in batches of "
                f"{schedule.batch}, for {', '.join(self.targets)}; its comments say why",
                f"training takes about {duration(schedule.seconds)} here (an estimate, on idle CPUs); next:",
                f"    {self.run}",
            ]
        )


def default_output(data: str) -> Path:
    """The recipe's name where none is given: that of the data set's folder, in the working folder."""
    place = Path(data).expanduser().resolve()
    name = re.sub(r"[^\w.-]+", "_", (place.parent if place.is_file() else place).name).strip("._-")
    return Path(f"{name or 'recipe'}.yaml")


def check_output(path: Path) -> None:
    """Find out before any work whether a recipe can be written there.

    Raises: `UserError` when it is there already or is no name of a recipe.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"--output {path}: the name of a recipe ends with .yaml or .yml")
    if os.path.lexists(path):
        raise UserError(f"{path} is there already and stays as it is; choose another name with --output")
    if not path.parent.is_dir():
        raise UserError(f"--output {path}: there is no folder {path.parent}")


def in_two(data: str, sources: Sources, output: Path, val: float | None) -> Sources:
    """The data sets to train and to evaluate on; one set of images is split where `val` says how.

    Args:
        data: the path, as the user named it.
        sources: what is there, and can be read.
        output: the recipe; the parts of a split are COCO files in a folder beside it, images stay where they are.
        val: part of the images to evaluate on, 0 to 1; None: there must be two data sets.

    Raises: `DataError` for one data set without `val`, `ConfigError` for two with it, what `split` raises.
    """
    kinds = [SHORT[section] for section in sources.settings]
    if val is None:
        if len(kinds) == 2:
            return sources
        raise DataError(
            f"{data} holds one set of images ({kinds[0]}), and two are needed, to train and to evaluate on: --val 0.2 "
            "puts a fifth of them aside, or name a folder with both"
        )
    if len(kinds) == 2:
        raise ConfigError(f"--val {val:g}: {data} holds {' and '.join(kinds)} already; leave it out")
    made = split(sources, output.with_name(f"{output.stem}_parts"), val, 0.0, 0, None, False)
    settings = {
        section: DatasetSettings("coco", str(made.image_folder), "", os.path.abspath(file), section=section)
        for section, file in zip(SHORT, made.files)
    }
    return replace(sources, settings=settings)


def write_recipe(
    targets: Sequence[str], output: Path, result: CheckResult, machine: Machine, command: str
) -> Written:
    """Write the recipe of data sets that `picoquant data check` has found no fault with.

    Args:
        targets: names or paths of NPU profiles; `all` is every shipped one.
        output: the file.
        result: what was found in TrainDataset and EvalDataset, for whatever input size.
        machine: that will train.
        command: for the first line.

    Raises: `UserError` where the file is there.
    """
    check_output(output)
    train, held_out = result.datasets["TrainDataset"], result.datasets["EvalDataset"]
    side = choose_input_size(lambda size: _longer_sides(train, result, size), result.network.stride)
    result = result.seen_by(_at(result, side.value))
    image_bytes = _bytes_of_one_image(side.value, train.num_classes)
    schedule = choose_schedule(len(train), side.value, machine, image_bytes)
    save_dir = f"output/{output.stem}"
    run = ["picoquant", "run", "--config", str(output), "--save-dir", save_dir]
    trial = [*run[:-1], f"{save_dir}_trial", *(word for text in _TRIAL for word in ("--set", text))]
    sets = {
        section: (result.settings[section], f"{len(found)} images, {result.counted[section].boxes} boxes")
        for section, found in (("TrainDataset", train), ("EvalDataset", held_out))
    }
    facts = Facts(
        command,
        shlex.join(run),
        shlex.join(trial),
        machine.text,
        sets,
        train.class_names,
        targets,
        side,
        schedule,
    )
    text = recipe_text(facts)
    _try(text)
    write_text(output, text)
    names = tuple(target.name for target in load_targets(targets))
    return Written(output, result, side.value, schedule, names, shlex.join(run))


def _bytes_of_one_image(size: int, classes: int) -> int:
    """What a training step of the recipe's network takes for each image, at the largest size of its batches."""
    from picoquant.detector.build import build_picodet
    from picoquant.detector.step_memory import bytes_of_one_image

    plan = load_plan(DEFAULT_DETECTOR, [f"Global.input_size=[{size},{size}]"])
    largest = largest_input(plan.train_reader, plan.input_size)
    return bytes_of_one_image(build_picodet(plan.detector_for(classes)), largest)


def _at(result: CheckResult, size: int) -> NetworkInput:
    return replace(result.network, height=size, width=size)


def _longer_sides(dataset: Dataset, result: CheckResult, size: int) -> np.ndarray:
    """[M] longer side of each box in a square input, input pixels."""
    return Objects.of(dataset, _at(result, size)).sides.max(axis=1, initial=0)


def _try(text: str) -> None:
    """Read the recipe as a run does.

    Raises: `ConfigError` for what its targets refuse, naming no file that is gone.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            with collected():
                plan = load_plan(str(path))
                plan.check()
                _ = plan.train_dataset, plan.eval_dataset, plan.train_reader, plan.training, plan.detector
        except ConfigError as error:
            raise ConfigError(str(error).replace(f"{path}: ", "")) from error
