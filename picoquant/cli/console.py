"""What a person sees: log lines on stderr, one line for an error, the exit code."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Callable

import click

from picoquant.errors import PicoquantError

LOG = logging.getLogger("picoquant")

INTERRUPTED, TERMINATED = 130, 143  # 128 + SIGINT, 128 + SIGTERM


_LONGEST = 2000  # characters of an error's line

# What PaddleDetection's, PaddleSlim's and others' own options are here.
_IMAGES = "name images or folders: picoquant predict images/"
_INSTEAD = {
    "--eval": "training evaluates every `snapshot_epoch` epochs",
    "-r": "the same command again continues a run, and --set pretrain_weights=FILE starts from weights",
    "--resume": "the same command again continues a run",
    "--output_dir": "it is --save-dir",
    "--save_dir": "it is --save-dir",
    "--amp": "it is --set Train.amp=true",
    "--use_vdl": "it is --set use_vdl=true",
    "--vdl_log_dir": "it is --set vdl_log_dir=DIR",
    "--use_wandb": "it is --set use_wandb=true",
    "--classwise": "it is --per-class",
    "--slim_config": "`picoquant run`, `train` and `quantize` take it, and the run folder keeps what it says",
    "--infer_img": _IMAGES,
    "--infer_dir": _IMAGES,
    "--infer_list": _IMAGES,
    "--image_file": _IMAGES,
    "--image_dir": _IMAGES,
    "--source": _IMAGES,
    "--video_file": "name the video: picoquant predict video.mp4",
    "--camera_id": "name the camera's number: picoquant predict 0",
    "--visualize": "images are drawn unless --no-images is given",
    "--save_txt": "--out takes the images, --json-lines the detections",
    "--save_results": "--out takes the images, --json-lines the detections",
    "--output_eval": "it is --save-dir",
    "--use_gpu": "it is --device gpu",
    "--devices": "it is --device",
    "--gpus": "it is --device gpu:0,1",
    "--config_path": "it is --config",
    "--learning_rate": "it is --set LearningRate.base_lr=RATE",
    "--batch_size": "it is --set TrainReader.batch_size=COUNT, or EvalReader.batch_size",
    "--epochs": "it is --set epoch=COUNT",
    "--num_classes": "the annotations say it",
    "--dataset_dir": "it is --data DIR",
    "--data_dir": "it is --data DIR",
    "--draw_threshold": "it is --threshold",
    "--fp16": "it is --set Train.amp=true",
    "--enable_ce": "runs are the same for the same Global.seed",
}


class Terminated(BaseException):
    """SIGTERM, as a scheduler sends it; a `BaseException` so that no `except Exception` keeps it."""


def set_up(quiet: bool, verbose: bool, debug: bool) -> None:
    """Log lines to stderr; paddle's own chatter off unless `debug`."""
    level = logging.WARNING if quiet else logging.DEBUG if verbose or debug else logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.setLevel(level)
    LOG.handlers = [handler]
    LOG.setLevel(level)
    LOG.propagate = False
    if (
        not logging.root.handlers
    ):  # as without one; Paddle 3 would add its own and log what all libraries say at INFO
        own = logging.StreamHandler(sys.stderr)
        own.setLevel(logging.WARNING)
        logging.root.addHandler(own)
    if not debug:
        os.environ.setdefault("GLOG_minloglevel", "2")
        warnings.simplefilter("ignore")


def log_to_file(path: Path) -> None:
    """Also append every line, with its time, to a file; with --quiet, too."""
    handler = _LogFile(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    LOG.addHandler(handler)
    LOG.setLevel(min(LOG.level, logging.INFO))  # what stderr shows is its own handler's


class _LogFile(logging.FileHandler):
    """A log file; where it can no longer be written (the disk is full), one line says so and work goes on without."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        LOG.removeHandler(self)
        stream, self.stream = self.stream, None  # type: ignore[assignment]  # None is how FileHandler says closed
        with suppress(OSError):  # what it holds cannot be written either, and at its end Python would say so
            stream.close()
        LOG.warning("%s is not written any more: %s", self.baseFilename, error.strerror)


def _terminate(signum: int, frame: object) -> None:
    raise Terminated


def run_to_exit(command: Callable[[], object], debug: bool) -> int:
    """Run a click command and turn whatever happens into an exit code and at most one line."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = command()  # a command that ends by ctx.exit(code) makes click return the code
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.NoSuchOption as error:
        hint = _INSTEAD.get(error.option_name)
        if hint:
            error.message, error.possibilities = f"No such option {error.option_name}; {hint}", None
        error.show()
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted; the same command continues where it stopped")
        return INTERRUPTED
    except Terminated:
        _say("terminated; the same command continues where it stopped")
        return TERMINATED
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except PicoquantError as error:
        if debug:
            traceback.print_exc()
        _say(f"error: {error}")
        return error.exit_code
    except Exception as error:  # the last resort: one line instead of a traceback
        if debug:
            traceback.print_exc()
        _say(f"error: {type(error).__name__}: {error} (a failure of picoquant; --debug shows where)")
        return 1


def _say(text: str) -> None:
    line = " ".join(text.split())
    if len(line) > _LONGEST:  # it quotes something from a file
        line = f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"
    record = LOG.makeRecord(LOG.name, logging.ERROR, "", 0, line, (), None)
    for handler in LOG.handlers[1:]:  # the log file; stderr gets the line without a logger's level
        handler.handle(record)
    print(f"picoquant: {line}", file=sys.stderr)
