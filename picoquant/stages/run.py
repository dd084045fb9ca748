"""Run stages in their order: only what is missing or changed, saying what is left out and why."""

from __future__ import annotations

import json
import logging
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Callable

from picoquant.errors import ConfigError
from picoquant.stages.stage import Context, Stage
from picoquant.storage.files import disk_errors
from picoquant.storage.run_folder import RunFolder, fingerprint
from picoquant.utils.device import available_cpus, cpu_seconds
from picoquant.utils.progress import duration
from picoquant.utils.ranks import call_helpers
from picoquant.utils.versions import OF_A_RUN, versions
from picoquant.yaml_files.load import dump_yaml

LOG = logging.getLogger("picoquant")


def command() -> str:
    """The command line of this process, as it would be typed again."""
    return shlex.join(["picoquant", *sys.argv[1:]])


def select(stages: Sequence[Stage], first: str | None, last: str | None) -> list[Stage]:
    """The stages from `first` to `last`, both included.

    Raises: `ConfigError` when the two are in the wrong order.
    """
    names = [stage.name for stage in stages]
    begin = names.index(first) if first else 0
    end = names.index(last) if last else len(names) - 1
    if begin > end:
        raise ConfigError(f"--from {first} comes after --until {last}; the order is {', '.join(names)}")
    return list(stages[begin : end + 1])


def run_stages(
    context: Context,
    stages: Sequence[Stage],
    force: bool = False,
    check: Callable[[Sequence[Stage]], None] = lambda left: None,
) -> list[str]:
    """Run the stages one after the other in the context's run folder.

    A stage that is done with the same inputs is skipped, unless `force`. What an error or a kill
    interrupts is continued by the next call.

    Args:
        context: recipe and run folder.
        stages: in their order.
        force: run what is done, too.
        check: called once, before the first stage that runs, with that and those behind it; raises what would stop
            them.

    Returns: names of the stages that were not skipped.
    """
    run = context.run
    run.write_config(dump_yaml(context.plan.document))
    run.describe(
        versions=versions(OF_A_RUN),
        platform=platform.platform(),
        command=command(),
        recipe=context.plan.recipe.source,
        device=context.device,
    )
    ran = []
    for place, stage in enumerate(stages):
        reason = stage.not_needed(context)
        if reason:
            LOG.info("%s: skipped, %s", stage.name, reason)
            if run.record(stage.name).get("status") != "done":
                run.set_record(stage.name, {"status": "skipped", "reason": reason})
            continue
        if _run_one(context, stage, force, None if ran else partial(check, stages[place:])):
            ran.append(stage.name)
    return ran


def inputs_of(context: Context, stage: Stage) -> tuple[dict, str]:
    """A stage's inputs as run.json holds them, and their fingerprint."""
    inputs = json.loads(json.dumps(stage.inputs(context), default=str))
    return inputs, fingerprint({"stage": stage.name, "inputs": inputs})


def adopt(context: Context, stage: Stage, other: RunFolder) -> bool:
    """Take a stage's result from another run folder, where it was made of the same inputs.

    Returns: whether the context's run folder has that result now; False where the other one has none of these inputs.
    """
    run, mark = context.run, inputs_of(context, stage)[1]
    if not other.is_current(stage.name, mark):
        return False
    record = other.record(stage.name)
    if run.is_current(stage.name, mark) and run.record(stage.name)["files"] == record["files"]:
        return True
    out, _ = run.work(stage.name, mark, fresh=True)
    with disk_errors(out):
        shutil.copytree(other.folder(stage.name), out, dirs_exist_ok=True)
    run.finish(stage.name, out, record)
    return True


def _run_one(context: Context, stage: Stage, force: bool, check: Callable[[], None] | None) -> bool:
    """Run a stage, after `check`; False when it is done already."""
    run = context.run
    inputs, mark = inputs_of(context, stage)
    if not force and run.is_current(stage.name, mark):
        LOG.info("%s: skipped, done before with the same inputs (%s)", stage.name, run.folder(stage.name))
        return False
    old = run.record(stage.name)
    if old.get("status") == "done":
        LOG.info("%s: again, %s", stage.name, "as --force says" if force else _what_changed(old, inputs))
    LOG.info("%s: %s", stage.name, stage.does)
    out, keep = run.work(stage.name, mark, fresh=force)
    record = {
        "fingerprint": mark,
        "settings": inputs,
        "command": command(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    if old.get("status") != "done":
        run.set_record(stage.name, {**record, "status": "running"})
    began, used = time.monotonic(), cpu_seconds()
    try:
        if check is not None:
            check()
        if stage.help is not None:
            call_helpers(inputs)
        metrics = stage.work(context, out, keep)
    except BaseException as error:
        if old.get("status") != "done":
            run.set_record(
                stage.name,
                {**record, "status": "failed", "error": str(error) or type(error).__name__},
            )
        raise
    seconds = round(time.monotonic() - began, 2)
    taken = {"seconds": seconds, "cpu_seconds": round(cpu_seconds() - used, 2), "cpus": available_cpus()}
    run.finish(stage.name, out, {**record, **taken, "metrics": metrics})
    LOG.info("%s: done in %s -> %s", stage.name, duration(seconds), run.folder(stage.name))
    return True


def _what_changed(record: dict, inputs: dict) -> str:
    old = record.get("settings", {})
    changed = [key for key in sorted(set(old) | set(inputs)) if old.get(key) != inputs.get(key)]
    return f"changed: {', '.join(changed)}" if changed else "its files are not as they were left"
