"""The pipeline: its stages in their order, and one call that runs a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Callable

from picoquant.config.recipe import DEFAULT_RECIPE
from picoquant.errors import ConfigError
from picoquant.stages import datasets, evaluate, export, package, quantize, train
from picoquant.stages.plan import Plan, load_plan
from picoquant.stages.run import inputs_of, run_stages, select
from picoquant.stages.stage import Context, Stage
from picoquant.storage.run_folder import CONFIG, LOG_FILE, RunFolder
from picoquant.utils import ranks
from picoquant.utils.device import check_device, rank_and_world

STAGES = (train.STAGE, export.STAGE, quantize.STAGE, evaluate.STAGE, package.STAGE)


def run_recipe(
    config: str | Plan | None,
    save_dir: str,
    overrides: Sequence[str] = (),
    first: str | None = None,
    last: str | None = None,
    device: str = "cpu",
    force: bool = False,
    opt: str | None = None,
    log_to_file: Callable[[Path], None] | None = None,
    new: bool = False,
) -> RunFolder:
    """Run a recipe's stages from `first` to `last` in a run folder.

    Args:
        config: a recipe or configuration, path or shipped name, or its plan; None takes the run folder's own.
        save_dir: the run folder.
        overrides: `KEY.SUB=VALUE` texts; of a plan they are applied already.
        first, last: names of stages; None for the first and the last there are.
        device: `cpu`, `gpu` or `gpu:0,1`.
        force: run stages again that are done.
        opt: path of Paddle Lite's opt.
        log_to_file: called with the log's path once the folder is there.
        new: where `config` is None and there is no earlier run, take the shipped recipe; the overrides name the data.

    In a group of processes (`paddle.distributed.launch`) the first of them does all of this; the others
    only help it in the one stage, and write nothing into the run folder.

    Returns: the run folder.

    Raises: `UserError` for bad input, `PicoquantError` for a failure of ours.
    """
    stages = select(STAGES, first, last)
    plan = config if isinstance(config, Plan) else plan_of(config, save_dir, overrides, new)
    check_device(device)
    rank, world = rank_and_world()
    if world > 1 and (len(stages) > 1 or not stages[0].help):
        raise ConfigError(
            "paddle.distributed.launch is for `picoquant train`, `picoquant quantize` or `picoquant eval` alone; run "
            "the rest without it"
        )
    run = RunFolder(Path(save_dir))
    context = Context(plan, run, device, opt)
    with ranks.together(device):
        if rank:
            if ranks.called(lambda: inputs_of(context, stages[0])[0]):
                stages[0].help(context)
            return run
        with run.locked():
            if log_to_file:
                log_to_file(run.root / LOG_FILE)
            _check(context, stages)
            ran = run_stages(context, stages, force, partial(_check_data, context))
            if not ran:
                ranks.call_helpers(None)
    return run


def plan_of(config: str | None, save_dir: str, overrides: Sequence[str] = (), new: bool = False) -> Plan:
    """The plan of a recipe, or of the one that an earlier run left; arguments and errors as of `run_recipe`."""
    return load_plan(config or earlier_config(save_dir, DEFAULT_RECIPE if new else None), overrides)


def _check(context: Context, stages: Sequence[Stage]) -> None:
    """Find out before the first stage what would stop a later one: data sets, settings, targets."""
    needed = [stage for stage in stages if not stage.not_needed(context)]
    for section in dict.fromkeys(section for stage in needed for section in stage.data):
        datasets.check(context, section)
    context.plan.check()


def _check_data(context: Context, stages: Sequence[Stage]) -> None:
    """Read the data sets that these stages will read, and refuse what stops one of them, before the first works.

    An export takes names and a few images of its data set alone.
    """
    needed = [stage for stage in stages if stage is not export.STAGE and not stage.not_needed(context)]
    sections = dict.fromkeys(section for stage in needed for section in stage.data)
    trains = train.STAGE in needed
    if not trains and datasets.calibration_section(context) != "TrainDataset":
        sections.pop("TrainDataset", None)
    datasets.require_usable(context, list(sections), trains)


def earlier_config(save_dir: str, otherwise: str | None = None) -> str:
    """The configuration that an earlier run left in `save_dir`; `otherwise` where there is none.

    Raises: `ConfigError` when there is neither.
    """
    path = Path(save_dir).expanduser() / CONFIG
    if not path.is_file():
        if otherwise is not None:
            return otherwise
        raise ConfigError(
            f"--config is needed: {save_dir} holds no earlier run (no {path}); name a recipe, "
            "for example --config quickstart.yaml"
        )
    return str(path)
