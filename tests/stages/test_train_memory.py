"""Evaluations in the middle of training leave the training's memory, files, threads and processes as they are."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.command_line import with_sets

# Runs the command and notes, whenever it reports an evaluation, what the process holds: memory (KB), open files,
# threads, child processes.
_TRAIN = """
import atexit, json, logging, os, sys
from pathlib import Path
from picoquant.cli.main import main

class Held(logging.Filter):
    seen = []
    def filter(self, record):
        if record.getMessage().startswith("train: mAP"):
            memory = Path("/proc/self/status").read_text().split("VmRSS:")[1]
            tasks = list(Path("/proc/self/task").iterdir())
            children = [child for task in tasks for child in (task / "children").read_text().split()]
            self.seen.append([int(memory.split()[0]), len(os.listdir("/proc/self/fd")), len(tasks), len(children)])
        return True

logging.getLogger("picoquant").addFilter(Held())
file = Path(sys.argv.pop(1))
atexit.register(lambda: file.write_text(json.dumps(Held.seen)))
main()
"""


def held_after_evaluations(folder, epochs, size, images, batch):
    """Of a real `picoquant train`, KB, files, threads and processes after each epoch's evaluation."""
    sets = [
        f"Synthetic.train_images={images}", "Synthetic.val_images=4", f"Synthetic.image_size={size}",
        f"Global.input_size=[{size},{size}]", f"epoch={epochs}", f"TrainReader.batch_size={batch}",
        "worker_num=1", "EvalReader.batch_size=2", "snapshot_epoch=1",
        "TrainReader.batch_transforms=[{NormalizeImage: {mean: [0, 0, 0], std: [1, 1, 1]}}, "
        f"{{BatchRandomResize: {{target_size: [{size}], keep_ratio: false, random_interp: true}}}}, "
        "{Permute: {}}, {PadGT: {}}]",
    ]  # fmt: skip
    command = [sys.executable, "-c", _TRAIN, str(folder / "memory.json"), "train", "-c", "quickstart"]
    command += ["--save-dir", str(folder / "run"), *with_sets(sets)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "memory.json").read_text())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
@pytest.mark.parametrize("epochs, size, images, batch", [(4, 96, 8, 4), (10, 160, 32, 8)])
def test_nothing_grows_after_the_second_epoch(tmp_path, epochs, size, images, batch):
    held = held_after_evaluations(tmp_path, epochs, size, images, batch)
    assert len(held) == epochs
    memory, *counts = zip(*held)
    assert max(memory[2:]) <= 1.05 * memory[1], held
    for count in counts:
        assert max(count[2:]) <= count[1], held
