"""Run a model from elsewhere once in a process of its own, before this process loads it.

`paddle_program/validate.py` refuses what Paddle's native code is known to crash on. What is left is rare: 2 of 5,000
programs with one to three fields changed (paddle 2.6.2). But a crash cannot be caught where it happens.
"""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from contextlib import suppress

from picoquant.backends.paddle.runtime import open_predictor
from picoquant.errors import PicoquantError, WeightsError
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.network_input import feed_of_image, sample_image, select_inputs
from picoquant.paddle_program.provenance import made_by_a_run
from picoquant.utils.subprocesses import Outcome, own_environment

_SECONDS = 120
# Native code's own ends; others, as SIGKILL for want of memory, say nothing of the model.
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGBUS)


def require_tried(folder: ModelFolder, onednn: bool = True) -> None:
    """Let a model survive once in another process, unless a run here has made it.

    Args and raises: as `require_survives`.
    """
    if not made_by_a_run(folder):
        require_survives(folder, onednn)


def require_survives(folder: ModelFolder, onednn: bool = True) -> None:
    """Run a model on one made-up image on the CPU in another process.

    An error that Paddle raises there is not looked at: whoever loads the model meets it, too.

    Args:
        folder: the model.
        onednn: as for `open_predictor`.

    Raises: `WeightsError` when Paddle's native code crashes or does not end, `PicoquantError` when the model
        could not be tried.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "picoquant.backends.paddle.smoke_test"],
            input=pickle.dumps((folder, onednn)),
            capture_output=True,
            env=own_environment(),
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise WeightsError(
            f"{folder.model}: Paddle took more than {_SECONDS} s for one image, so it is damaged or too large"
        ) from error
    outcome = Outcome(done.returncode, done.stderr.decode("utf-8", "replace"))
    if -outcome.code in _CRASHES:
        raise WeightsError(
            f"{folder.model}: Paddle's native code crashed on it ({outcome.ended}), so it is damaged: make it again"
        )
    if outcome.code:
        said = (outcome.text.strip().splitlines() or ["no message"])[-1]
        raise PicoquantError(f"{folder.model} could not be tried ({outcome.ended}): {said}")


def _main() -> None:
    import paddle

    paddle.disable_signal_handler()
    folder, onednn = pickle.load(sys.stdin.buffer)  # our parent's words
    with suppress(Exception):  # the parent meets it, too, and says it
        predict = open_predictor(folder, threads=1, onednn=onednn)
        feed = feed_of_image(sample_image(*folder.config.input_size), folder.config)
        predict(select_inputs(feed, predict.input_names))


if __name__ == "__main__":
    _main()
