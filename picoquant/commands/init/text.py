"""The text of a recipe: what was chosen, and why, as comments."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from picoquant.commands.init.choices import Choice, Schedule
from picoquant.config.recipe import DEFAULT_RECIPE
from picoquant.data.settings import FORMATS, DatasetSettings

_WIDTH = 110
_CLASSES = 40  # so many names in a comment
_TAGS = {kind: tag for tag, kind in FORMATS.items()}


@dataclass(frozen=True)
class Facts:
    """What a recipe is made of.

    Attributes:
        command: that made it; run, trial: the commands that run it, and that try it.
        machine: in words.
        sets: by section: where the images are, and a line on what they are.
        classes: names, in their order.
        targets: names or paths of NPU profiles, `all` among them.
        input_size, schedule: what was chosen.
    """

    command: str
    run: str
    trial: str
    machine: str
    sets: Mapping[str, tuple[DatasetSettings, str]]
    classes: Sequence[str]
    targets: Sequence[str]
    input_size: Choice
    schedule: Schedule


def recipe_text(facts: Facts) -> str:
    """The recipe as YAML."""
    size, schedule = facts.input_size, facts.schedule
    target = facts.targets[0] if len(facts.targets) == 1 else list(facts.targets)
    names = ", ".join(facts.classes[:_CLASSES]) + (", …" if len(facts.classes) > _CLASSES else "")
    parts = [
        _comment(f"Made by: {facts.command}")
        + _comment(
            f"For this machine: {facts.machine}. Paths count from the folder in which commands are given."
        )
        + "#\n# The next command:\n"
        + f"#     {_plain(facts.run)}\n"
        + "# The same in a few minutes, to see that all stages end (its mAP says nothing):\n"
        + f"#     {_plain(facts.trial)}\n",
        "# PicoDet-S with the operators that INT8 NPUs have, quantisation-aware training behind it.\n"
        f"_BASE_: {DEFAULT_RECIPE}.yaml\n",
        f"{_comment(_sentence(size.why))}Global: {{input_size: [{size.value}, {size.value}]}}\n",
        "\n".join(_data_set(section, *found) for section, found in facts.sets.items()),
        f"{_comment(f'From the annotations: {names}')}num_classes: {len(facts.classes)}\n",
        "# From nothing: no file to look for. Weights of a PicoDet (.pdparams) named here need far fewer epochs.\n"
        "pretrain_weights: null\n",
        f"{_comment(_sentence(schedule.why_epochs))}{_comment(f'Time: {schedule.why_seconds}.')}"
        f"epoch: {schedule.epochs}\nsnapshot_epoch: {schedule.evaluate_every}   # epochs between two evaluations\n",
        f"{_comment(f'A batch takes {schedule.why_batch}.')}"
        "# Images are flipped, and resized to sizes around the input, as in docs/training.md, From scratch.\n"
        "TrainReader:\n"
        f"  batch_size: {schedule.batch}\n"
        "  sample_transforms: [Decode: {}, RandomFlip: {prob: 0.5}]\n",
        "# The rate goes with the batch: 0.06 for 8 images and 0.1 for 16 were tried.\n"
        "LearningRate:\n"
        f"  base_lr: {schedule.base_lr}\n"
        "  schedulers:\n"
        f"  - {{name: CosineDecay, max_epochs: {schedule.epochs}}}\n"
        f"  - {{name: LinearWarmup, start_factor: 0.1, steps: {schedule.warmup}}}\n",
        "# Steps of quantisation-aware training, after calibration; the best evaluation counts, that before the first\n"
        "# step among them.\n"
        "TrainConfig: {train_iter: 60, eval_iter: 30}\n",
        "# The board: `picoquant targets` lists those that are shipped.\n"
        f"Package: {{target: {_value(target)}}}\n",
    ]
    return "\n".join(parts)


def _data_set(section: str, settings: DatasetSettings, said: str) -> str:
    """A section as a recipe has it, without what is as by default."""
    lines = [f"{section}: !{_TAGS[settings.format]}   # {_plain(said)}"]
    for entry in fields(settings):
        value = getattr(settings, entry.name)
        if entry.name not in ("format", "section") and value != entry.default:
            lines.append(f"  {entry.name}: {_value(value)}")
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    """A value as JSON, which YAML reads; what UTF-8 does not have (an undecodable name) is escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in text)


def _plain(text: str) -> str:
    """A text that stays on its line of a comment."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _comment(text: str) -> str:
    lines = textwrap.wrap(_plain(text), _WIDTH, break_long_words=False, break_on_hyphens=False)
    return "".join(f"# {line}\n" for line in lines)
