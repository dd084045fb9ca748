"""One trial: found again, continued, taken from the run, or begun where the time allows it."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path

from picoquant.commands.search.clock import Clock, TimeUpError
from picoquant.commands.search.course import METHOD, Values
from picoquant.commands.search.scores import Scores
from picoquant.commands.search.trials import DONE, FAILED, STOPPED, Trial
from picoquant.commands.search.variants import Variants
from picoquant.errors import PicoquantError, UserError
from picoquant.stages import datasets
from picoquant.stages.quantize import STAGE
from picoquant.stages.run import adopt, inputs_of, run_stages
from picoquant.stages.stage import Context
from picoquant.storage.run_folder import RunFolder, stage_record

LOG = logging.getLogger("picoquant")

_SECONDS, _FAILED = (
    "search_seconds",
    "search_failed",
)  # in a trial's run.json: over all calls; of which inputs, and why
# Seconds for an image in training beside those in evaluation: a guess that counts until a trial has trained. Figures
# in docs/quantization.md and docs/evaluation.md are 0.3 to 0.5 s beside 0.03 s, at 416 px on two cores.
_TRAINING = 20


class Attempts:
    """Runs trials and keeps what they took.

    Args:
        context: of the run.
        variants: of its recipe.
        scores: scores their models.
        clock: of the search.
        folder: of the search.
        force: run trials again that are done.

    Attributes:
        runs: the trials' folders, by name.
        left_out: method and expected seconds of what the time did not allow.
    """

    def __init__(
        self, context: Context, variants: Variants, scores: Scores, clock: Clock, folder: Path, force: bool
    ) -> None:
        self._context, self._variants, self._scores = context, variants, scores
        self._clock, self._folder, self._force = clock, folder, force
        self._took: dict[str, list[float]] = {"ptq": [], "qat": []}
        self._first = True
        self.runs: dict[str, RunFolder] = {}
        self.left_out: list[tuple[str, float]] = []

    def attempt(self, values: Values) -> Trial | None:
        """Run a trial, unless it is done; None where the time does not allow it.

        The first one is always run to its end: without a result there is nothing to choose from. One that fails is
        noted with its reason.
        """
        method, texts = values[METHOD], self._variants.texts(values)
        try:
            name, mark = self._place(values)
        except UserError as error:  # settings that exclude each other
            LOG.warning("search: %s: %s", " ".join(texts), error)
            return Trial(self._variants.label(values), method, texts, FAILED, reason=str(error))
        known = [RunFolder(self._folder / name)] if (self._folder / name).is_dir() else []
        about = known[0].about() if known else {}
        seconds, failed = about.get(_SECONDS, 0.0), about.get(_FAILED) or {}
        if failed.get("fingerprint") == mark and not self._force:
            LOG.info("search: %s: failed before; --force or removing its folder tries it again", name)
            return Trial(name, method, texts, FAILED, seconds=seconds, reason=failed["reason"])
        done = not self._force and any(
            one.is_current(STAGE.name, mark) for one in (*known, self._context.run)
        )
        first, self._first = self._first, False
        if not done and not first:
            expected = self._expected(method)
            if not self._clock.fits(expected):
                self.left_out.append((method, expected))
                return Trial(name, method, texts, STOPPED, seconds=seconds) if seconds else None
        LOG.info("search: %s%s", name, ": done before" if done else "")
        run = self.runs[name] = RunFolder(self._folder / name)
        trial = Trial(name, method, texts, DONE)
        with run.locked():
            trial = self._run(trial, self._variants.in_folder(values, run), limited=not (done or first))
            reason = {"fingerprint": mark, "reason": trial.reason} if trial.status == FAILED else None
            run.describe(**{_SECONDS: trial.seconds, _FAILED: reason})
        if trial.status == DONE:
            self._took[method].append(trial.seconds)
        return trial

    def _place(self, values: Values) -> tuple[str, str]:
        """The name of a trial's folder, and the fingerprint of its inputs, by which it is found again.

        Raises: `UserError` for settings that exclude each other.
        """
        mark = inputs_of(self._variants.in_folder(values, self._context.run), STAGE)[1]
        folders = sorted(self._folder.glob("[0-9]*-*"))
        for path in folders:
            if stage_record(path, STAGE.name).get("fingerprint") == mark:
                return path.name, mark
        number = max((int(path.name.split("-")[0]) for path in folders), default=0) + 1
        return f"{number:03d}-{self._variants.label(values)}", mark

    def _run(self, trial: Trial, context: Context, limited: bool) -> Trial:
        """The trial with its result, or why it has none."""
        run, stages = context.run, [STAGE, self._scores.stage]
        before, began = run.about().get(_SECONDS, 0.0), time.monotonic()
        try:
            there = run.record(STAGE.name).get("status") == "done"
            if not (self._force or there) and adopt(context, STAGE, self._context.run):
                before = run.record(STAGE.name).get("seconds", 0.0)
            if limited:
                with self._clock.limit():
                    run_stages(context, stages, self._force)
            elif not run_stages(context, stages, self._force):
                began = time.monotonic()  # looking took next to no time
            trial = replace(trial, score=self._scores.score(run))
        except TimeUpError:
            LOG.info("search: %s is stopped, the time is used up; the next call continues it", trial.name)
            trial = replace(trial, status=STOPPED)
        except Exception as error:
            said = " ".join(str(error).split())
            reason = said if isinstance(error, PicoquantError) else f"{type(error).__name__}: {said}"
            LOG.debug("search: %s", trial.name, exc_info=True)
            LOG.warning("search: %s failed, the search goes on: %s", trial.name, reason)
            trial = replace(trial, status=FAILED, reason=reason)
        finally:
            seconds = round(before + time.monotonic() - began, 1)
            run.describe(**{_SECONDS: seconds})
        return replace(trial, seconds=seconds)

    def _expected(self, method: str) -> float:
        """Seconds that a trial will take: as the longest of its method so far, or a guess before the first."""
        if method == "ptq" or self._took["qat"]:
            return max(self._took[method], default=0.0)
        from picoquant.data.readers.reader import endless_sizes

        plan = self._context.plan
        size = plan.calibration.batch_size or plan.eval_reader.batch_size
        size, epoch = endless_sizes(datasets.calibration_images(self._context), size, 1)
        settings = plan.quantization.train
        steps = settings.steps(epoch)
        evaluated = (steps // settings.eval_iter + 2) * self._scores.images
        seconds = self._scores.seconds_per_image * (_TRAINING * size * steps + evaluated)
        return max(self._took["ptq"], default=0.0) + seconds
