"""PaddleSlim's side of `compression.py`, a process of its own: it turns Paddle to static mode, and writes where it is.

It asks its parent on its stdout and reads the answers on its stdin, both pickled: `("batch",)` for a feed,
`("metric", folder)` for the mAP of a model, `("step", loss)` and `("done",)` for nothing.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = {"model_filename": "model.pdmodel", "params_filename": "model.pdiparams"}


class _Parent:
    """Whom to ask."""

    def __init__(self) -> None:
        self._questions, self._answers = os.fdopen(os.dup(1), "wb"), sys.stdin.buffer
        os.dup2(2, 1)  # what PaddleSlim prints must not get between the questions

    def ask(self, *question: Any) -> Any:
        pickle.dump(question, self._questions, pickle.HIGHEST_PROTOCOL)
        self._questions.flush()
        return pickle.load(self._answers)  # trusted: written by our own parent


def main() -> None:
    """Compress what the first answer says: model, folder for the result, sections, steps of an epoch, device."""
    parent = _Parent()
    model, out, sections, steps, device, evaluates = parent.ask("task")
    import paddle

    paddle.set_device(device)
    from paddleslim.auto_compression import AutoCompression

    def batches() -> Iterator[Any]:
        for _ in range(steps):
            yield parent.ask("batch")

    def metric(executor: Any, program: Any, names: list[str], fetches: list[Any]) -> float:
        folder = Path(out) / "candidate"
        folder.mkdir(parents=True, exist_ok=True)
        copy = getattr(program, "_program", program).clone(for_test=True)  # writing adds operators to it
        block = copy.global_block()
        ends = [[block.var(one) for one in part] for part in (names, [fetch.name for fetch in fetches])]
        prefix = str(folder / "model")
        paddle.static.save_inference_model(prefix, *ends, executor, program=copy, clip_extra=False)
        return float(parent.ask("metric", str(folder)))

    built = AutoCompression(
        model,
        batches,
        save_dir=out,
        config=sections,
        eval_callback=metric if evaluates else None,
        eval_dataloader=batches,
        **NAMES,
    )
    _report_losses(built, parent)
    built.compress()
    parent.ask("done")


def _report_losses(built: Any, parent: _Parent) -> None:
    """Let the parent know the loss of each step: that is what is run with a feed, but for evaluations."""
    run = built._exe.run

    def reported(*arguments: Any, **more: Any) -> Any:
        found = run(*arguments, **more)
        if more.get("feed"):
            parent.ask("step", float(found[0].reshape(-1)[0]))
        return found

    built._exe.run = reported


if __name__ == "__main__":
    main()
