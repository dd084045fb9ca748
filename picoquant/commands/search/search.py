"""`picoquant quantize --search MINUTES`: try settings of the quantisation in the time given, keep the best.

Each trial is the stage `quantize` in a run folder of its own, `search/<number>-<settings>/`, with the run's FP32 model.
A trial is found again by its inputs, whatever its folder is called; what was interrupted is continued.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from picoquant.commands.search.attempts import Attempts
from picoquant.commands.search.clock import Clock
from picoquant.commands.search.course import course
from picoquant.commands.search.scores import Scores
from picoquant.commands.search.trials import DONE, Trial, as_json, as_text, write_table
from picoquant.commands.search.variants import Variants
from picoquant.errors import ConfigError, UserError
from picoquant.stages import datasets
from picoquant.stages.order import earlier_config
from picoquant.stages.plan import load_plan
from picoquant.stages.quantize import STAGE
from picoquant.stages.run import adopt, run_stages
from picoquant.stages.stage import Context
from picoquant.storage.files import write_text
from picoquant.storage.run_folder import LOG_FILE, RunFolder
from picoquant.utils.device import check_device, rank_and_world
from picoquant.utils.progress import duration
from picoquant.yaml_files.load import dump_yaml

LOG = logging.getLogger("picoquant")

FOLDER = "search"
RECIPE, INSTALLED = "recipe.yml", "installed.yml"  # what a search began with; the config.yml that it left
_WITH_INTERVAL = 3  # of the best trials


@dataclass(frozen=True)
class Found:
    """What a search ended with.

    Attributes:
        trials: in their order, those of earlier calls with the same inputs among them.
        best: the one that is the run's INT8 model now.
    """

    trials: tuple[Trial, ...]
    best: Trial

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return as_json(self.trials, self.best)

    def to_text(self) -> str:
        """As a table."""
        return as_text(self.trials, self.best)


def search(
    config: str | None,
    save_dir: str,
    overrides: Sequence[str],
    minutes: float,
    device: str = "cpu",
    force: bool = False,
    opt: str | None = None,
    log_to_file: Callable[[Path], None] | None = None,
) -> Found:
    """Search, and make the best trial the run's `quantize` result and its settings the run's config.yml.

    Args:
        config: a recipe or configuration, path or shipped name; None takes what the run's search began with, else the
            run folder's own.
        save_dir: the run folder, with an export in it.
        overrides: `KEY.SUB=VALUE` texts.
        minutes: for new trials; done ones take none.
        device: `cpu`, `gpu` or `gpu:0,1`.
        force: run trials again that are done.
        opt: path of Paddle Lite's opt.
        log_to_file: called with the log's path once the folder is there.

    Raises: `UserError` for bad input, or when no trial has a result.
    """
    if not (math.isfinite(minutes) and minutes > 0):
        raise UserError(f"--search {minutes:g}: expected minutes above 0, for example --search 60")
    if rank_and_world()[1] > 1:
        raise ConfigError("--search is for one process: run it without paddle.distributed.launch")
    plan = load_plan(config or _earlier(save_dir), overrides)
    check_device(device)
    if not plan.common.Evaluation:
        raise ConfigError("--search compares trials on the evaluation images: set Global.Evaluation to true")
    run = RunFolder(Path(save_dir))
    with run.locked():
        if log_to_file:
            log_to_file(run.root / LOG_FILE)
        clock, context = Clock(60 * minutes), Context(plan, run, device, opt)
        for section in STAGE.data:
            datasets.check(context, section)
        plan.check()
        variants = Variants(context)
        write_text(run.root / FOLDER / RECIPE, dump_yaml(plan.document))
        return _search(context, variants, clock, force)


def _earlier(save_dir: str) -> str:
    """The run's config.yml; where that is what a search left there, what the search began with."""
    path = Path(earlier_config(save_dir))
    folder = path.parent / FOLDER
    left = folder / INSTALLED
    if left.is_file() and left.read_text(encoding="utf-8") == path.read_text(encoding="utf-8"):
        return str(folder / RECIPE)
    return str(path)


def _search(context: Context, variants: Variants, clock: Clock, force: bool) -> Found:
    folder = context.run.root / FOLDER
    scores = Scores(variants.in_folder(variants.space.own, RunFolder(folder / "fp32")), force)
    attempts = Attempts(context, variants, scores, clock, folder, force)
    steps, trials = course(variants.space), []
    own: Trial | None = None  # of the recipe's own settings, without training where that was not tried
    values = next(steps)
    while values is not None:
        trial = attempts.attempt(values)
        if trial is not None:
            trials.append(trial)
            write_table(folder, trials)
            if trial.status == DONE and (values == variants.space.own or len(trials) == 1):
                own = trial
        try:
            values = steps.send(trial.worth if trial else None)
        except StopIteration:
            values = None
    _say_left_out(attempts.left_out, clock)
    best, trials = _choose(trials, own, attempts.runs, scores)
    write_table(folder, trials, best)
    _install(variants, best, attempts.runs[best.name], folder)
    return Found(tuple(trials), best)


def _say_left_out(left_out: Sequence[tuple[str, float]], clock: Clock) -> None:
    if left_out:
        would = " and ".join(
            f"{method} {duration(seconds)}" for method, seconds in sorted(dict(left_out).items())
        )
        LOG.info(
            "search: %d more trials would not end in the %s left (a trial takes about: %s); the same command with more "
            "time goes on with them",
            len(left_out),
            duration(max(clock.left, 0)),
            would,
        )


def _choose(
    trials: Sequence[Trial], own: Trial | None, runs: Mapping[str, RunFolder], scores: Scores
) -> tuple[Trial, list[Trial]]:
    """The best trial, and all of them with intervals where they are of interest.

    Args:
        trials: in their order.
        own: the trial of the recipe's own settings, if it has a result; it is kept unless the best is told apart.
        runs: their folders, by name.
        scores: of all.

    Raises: `UserError` when no trial has a result.
    """
    done = [trial for trial in trials if trial.status == DONE]
    if not done:
        raise UserError(
            f"--search: no trial has a result; the first: {trials[0].reason or trials[0].status} (--force tries again "
            "what failed)"
        )
    ranked = sorted(done, key=lambda trial: -trial.worth)
    best = ranked[0]
    if own is not None and best is not own:
        found = scores.difference(runs[own.name], runs[best.name])
        if found.low <= 0:
            LOG.info(
                "search: %s is not told apart from the recipe's own settings (%s %+.4f, 95 %% interval %+.4f to "
                "%+.4f): %s is kept",
                best.name,
                "fidelity" if own.score.fidelity is not None else "mAP",
                found.difference,
                found.low,
                found.high,
                own.name,
            )
            best = own
    wanted = [*ranked[:_WITH_INTERVAL], best] + ([own] if own else [])
    names = {trial.name for trial in wanted}
    shown = [
        replace(trial, interval=scores.interval(runs[trial.name])) if trial.name in names else trial
        for trial in trials
    ]
    return next(trial for trial in shown if trial.name == best.name), shown


def _install(variants: Variants, best: Trial, trial: RunFolder, folder: Path) -> None:
    """Make a trial's result the run's, and its settings those of the run's config.yml."""
    context = variants.of_run(best.overrides)
    write_text(folder / INSTALLED, dump_yaml(context.plan.document))
    adopt(context, STAGE, trial)
    run_stages(context, [STAGE])  # nothing is left to do but to write config.yml
    LOG.info(
        "search: the run's INT8 model is %s (%s)",
        best.name,
        " ".join(best.overrides) or "the recipe's own settings",
    )
