"""Evaluations in the middle of training leave the training's memory as it is."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.commands import with_sets

# Runs the command and notes the process's memory (KB) whenever it reports an evaluation.
_TRAIN = """
import atexit, json, logging, sys
from pathlib import Path
from picoquant.cli.main import main

class Memory(logging.Filter):
    kilobytes = []
    def filter(self, record):
        if record.getMessage().startswith("train: mAP"):
            status = Path("/proc/self/status").read_text().split("VmRSS:")[1]
            self.kilobytes.append(int(status.split()[0]))
        return True

logging.getLogger("picoquant").addFilter(Memory())
file = Path(sys.argv.pop(1))
atexit.register(lambda: file.write_text(json.dumps(Memory.kilobytes)))
main()
"""


def memory_after_evaluations(folder, epochs, size, images, batch):
    """Of a real `picoquant train`, KB after each epoch's evaluation."""
    sets = [
        f"Synthetic.train_images={images}", "Synthetic.val_images=4", f"Synthetic.image_size={size}",
        f"Global.input_size=[{size},{size}]", f"epoch={epochs}", f"TrainReader.batch_size={batch}",
        "worker_num=0", "EvalReader.batch_size=2", "snapshot_epoch=1",
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
def test_memory_stays_within_5_percent_after_the_second_epoch(tmp_path, epochs, size, images, batch):
    memory = memory_after_evaluations(tmp_path, epochs, size, images, batch)
    assert len(memory) == epochs
    assert max(memory[2:]) <= 1.05 * memory[1], memory
