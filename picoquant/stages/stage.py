"""What a stage is: a name, a question whether it is needed, its inputs, and its work."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from picoquant.stages.plan import Plan
from picoquant.storage.run_folder import RunFolder


@dataclass(frozen=True)
class Context:
    """What every stage needs.

    Attributes:
        plan: the recipe's settings.
        run: the run folder, to find what other stages left; None outside a run.
        device: `cpu`, `gpu` or `gpu:0,1`.
        opt: path of Paddle Lite's opt given by the user, or None.
        loaded: data sets read so far, so that no stage reads them again.
    """

    plan: Plan
    run: RunFolder | None
    device: str
    opt: str | None = None
    loaded: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline.

    Attributes:
        name: also its folder's and its key in run.json.
        does: a few words for the log.
        not_needed: a reason to leave the stage out for this recipe, or None.
        inputs: everything that decides the stage's result, JSON-able; raises `UserError` when something
            that must be there is not.
        work: `(context, out, keep) -> metrics`: writes the stage's files into `out`; may keep in `keep`
            what an interrupted run continues from.
        data: sections of the data sets it reads.
        help: `(context)`: what a further process of `paddle.distributed.launch` does while the first one is in
            `work` (`utils.ranks`); None: the stage is for one process.
    """

    name: str
    does: str
    not_needed: Callable[[Context], str | None]
    inputs: Callable[[Context], dict[str, Any]]
    work: Callable[[Context, Path, Path], dict[str, Any]]
    data: tuple[str, ...] = ()
    help: Callable[[Context], None] | None = None
