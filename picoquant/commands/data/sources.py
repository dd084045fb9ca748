"""Which data sets a command is about: those of a configuration, or what lies at a path."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from picoquant.commands.data.paths import data_sets_at
from picoquant.config.recipe import DEFAULT_DETECTOR
from picoquant.data.inspection.statistics import NetworkInput
from picoquant.data.settings import FORMATS, DatasetSettings
from picoquant.errors import ConfigError
from picoquant.stages.datasets import network_input, settings_of
from picoquant.stages.plan import Plan, load_plan
from picoquant.stages.stage import Context
from picoquant.storage.run_folder import RunFolder

SECTIONS = ("TrainDataset", "EvalDataset")
SHORT = {"TrainDataset": "train", "EvalDataset": "val"}  # in tables and names of files


@dataclass(frozen=True)
class Sources:
    """Data sets by the name of their section, `TrainDataset` first, and what the network makes of their images.

    named_by_config: whether a configuration was named; without one the network is that of the default.
    at_path: whether a path was named, whose data sets stand in place of the configuration's.
    num_classes: what a configuration says, where one was named.
    """

    settings: dict[str, DatasetSettings]
    network: NetworkInput
    named_by_config: bool
    at_path: bool
    num_classes: int | None = None

    def only(self, doing: str) -> DatasetSettings:
        """The one data set at a path, or a configuration's TrainDataset.

        Args:
            doing: what messages say is done with it.

        Raises: `ConfigError` where there are two at a path, or no TrainDataset.
        """
        if self.at_path and len(self.settings) > 1:
            files = " and ".join(str(settings.annotation_file) for settings in self.settings.values())
            raise ConfigError(
                f"there are two data sets, {files}; name the annotation file that is to be {doing}"
            )
        if not self.at_path and "TrainDataset" not in self.settings:
            raise ConfigError(f"the configuration has no TrainDataset; name the file that is to be {doing}")
        return next(iter(self.settings.values()))


def find_sources(path: str | None, config: str | None, overrides: Sequence[str], save_dir: str) -> Sources:
    """What a command line names.

    Args:
        path: a folder or an annotation file; None: the data sets of the configuration.
        config: a recipe or configuration; with a path it says what the network's input is.
        overrides: `KEY.SUB=VALUE` texts; `TrainDataset.box_format` and so on apply to a path's data sets, too.
        save_dir: where a generated data set lies.

    Raises: `UserError` naming what is not there.
    """
    if path is None and config is None:
        raise ConfigError("name a folder or an annotation file, or a configuration with --config")
    if path is None:
        plan = load_plan(config, overrides)
        context = Context(plan, RunFolder(Path(save_dir)) if plan.synthetic else None, "cpu")
        settings = {section: settings_of(context, section) for section in SECTIONS if _has(plan, section)}
        if not settings:
            raise ConfigError(f"{config} has neither TrainDataset nor EvalDataset; name a folder or a file")
        return Sources(settings, network_input(plan), True, False, plan.num_classes)
    found = data_sets_at(Path(path).expanduser())
    texts = [f"{settings.section}={_as_yaml(settings)}" for settings in found]
    plan = load_plan(config or DEFAULT_DETECTOR, [*texts, *overrides])
    read = {"TrainDataset": lambda: plan.train_dataset, "EvalDataset": lambda: plan.eval_dataset}
    settings = {one.section: read[one.section]() for one in found}
    return Sources(settings, network_input(plan), config is not None, True)


def _has(plan: Plan, section: str) -> bool:
    return plan.synthetic is not None or isinstance(plan.recipe.document.get(section), dict)


def _as_yaml(settings: DatasetSettings) -> str:
    """A data set's settings as a recipe has them, without what is as by default."""
    tag = {kind: name for name, kind in FORMATS.items()}[settings.format]
    values = {
        entry.name: getattr(settings, entry.name)
        for entry in fields(settings)
        if entry.name not in ("format", "section") and getattr(settings, entry.name) != entry.default
    }
    return f"!{tag} {json.dumps(values, ensure_ascii=False)}"
