"""The command line as a user meets it: a real process, its exit code, its one line."""

from __future__ import annotations

import os
import subprocess
import sys

# Values that make a run of all stages a matter of seconds.
SMALL = [
    "Synthetic.train_images=8", "Synthetic.val_images=4", "Synthetic.image_size=96",
    "Global.input_size=[64,64]", "epoch=1", "TrainReader.batch_size=4", "worker_num=0",
    "TrainConfig.train_iter=2", "TrainConfig.eval_iter=2", "EvalReader.batch_size=2", "pretrain_weights=null",
]  # fmt: skip


def picoquant(*arguments, cwd=None, timeout=600, **environment):
    """Run the command; returns the finished process with its text."""
    return subprocess.run(
        [sys.executable, "-m", "picoquant", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
        timeout=timeout,
    )


def with_sets(texts):
    """`--set` before each text."""
    return [part for text in texts for part in ("--set", text)]


def data_sets(folder):
    """Settings that name the training and validation images of a generated data set."""
    return [
        f"{section}.{key}={value}"
        for section, split in (("TrainDataset", "train"), ("EvalDataset", "val"))
        for key, value in (
            ("dataset_dir", folder),
            ("image_dir", split),
            ("anno_path", f"annotations/instances_{split}.json"),
        )
    ]


def refusal(done, code=2):
    """The last line of stderr, after checking the exit code and that no traceback came with it."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def small_run(folder, until):
    """A run of all stages up to `until`, with the values above; returns the finished process."""
    done = picoquant("run", "-c", "quickstart", "--save-dir", folder, "--until", until, *with_sets(SMALL))
    assert done.returncode == 0, done.stderr
    return done
