"""A long QAT holds memory, file handles, threads and processes flat.

For three minutes, or an hour: PICOQUANT_QAT_MINUTES=60 pytest -m slow -s tests/stages/test_quantize_memory.py
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import pytest

from tests.command_line import picoquant, with_sets

MINUTES = float(os.environ.get("PICOQUANT_QAT_MINUTES", "3"))
_STEPS = 24  # of an epoch, which ends with an evaluation
_SETS = [
    f"Synthetic.train_images={4 * _STEPS}", "Synthetic.val_images=16", "Synthetic.image_size=128",
    "Global.input_size=[96,96]", "epoch=1", "TrainReader.batch_size=4", "EvalReader.batch_size=4",
    "worker_num=1", "TrainConfig.train_iter=1000000", f"TrainConfig.eval_iter={_STEPS}",
    "TrainConfig.learning_rate=0.00001", "Quantize.guard_collapse=null", "Quantize.guard_rise=null",
]  # fmt: skip
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Sample:
    """What the processes hold at one moment.

    Attributes:
        memory: resident KB of the main process.
        of_children: the same of all processes it started, together.
        handles: open files, of all.
        threads: of all.
        processes: how many there are.
    """

    memory: int
    of_children: int
    handles: int
    threads: int
    processes: int


def sample_of(leader: int) -> Sample:
    """Of a process and all others of its session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) != leader:
                continue
            facts = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
            memory = int(facts.get("VmRSS", "0 kB").split()[0])
            found.append((int(folder.name), memory, len(os.listdir(folder / "fd")), int(facts["Threads"])))
        except (ProcessLookupError, FileNotFoundError):  # it has just ended
            continue
    main = [memory for process, memory, _, _ in found if process == leader]
    total = sum(memory for _, memory, _, _ in found)
    return Sample(
        sum(main), total - sum(main), sum(row[2] for row in found), sum(row[3] for row in found), len(found)
    )


def watched_epochs(run: Path, seconds: float) -> dict[int, list[Sample]]:
    """Of a real `picoquant quantize` that is stopped after a time, the samples of each epoch, from 1."""
    command = [sys.executable, "-m", "picoquant", "quantize", "-c", "quickstart", "--save-dir", str(run)]
    samples: dict[int, list[Sample]] = {}
    with open(run / "stderr.txt", "w") as stderr:
        process = subprocess.Popen(
            [*command, *with_sets(_SETS)],
            stderr=stderr,
            env={**os.environ, **_ONE_THREAD},
            start_new_session=True,
        )
        rows, passed, last = run / ".work/quantize/keep/qat.csv", 0.0, 0.0
        try:
            while passed < seconds:
                assert process.poll() is None, (run / "stderr.txt").read_text()[-3000:]
                steps = rows.read_bytes().count(b"\n") - 1 if rows.exists() else 0
                now = time.monotonic()
                if steps > 0:
                    passed += min(now - last, 5)  # a machine that sleeps does not train
                    samples.setdefault(steps // _STEPS + 1, []).append(sample_of(process.pid))
                last = now
                time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 143
        finally:
            process.kill()
            process.wait()
    return samples


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_qat_holds_nothing_more_after_the_second_epoch(tmp_path):
    done = picoquant(
        "run",
        "-c",
        "quickstart",
        "--save-dir",
        tmp_path,
        "--until",
        "export",
        *with_sets(_SETS),
        **_ONE_THREAD,
    )
    assert done.returncode == 0, done.stderr
    epochs = list(watched_epochs(tmp_path, 60 * MINUTES).values())
    peaks = [Sample(*map(max, zip(*map(astuple, samples)))) for samples in epochs]
    least = [Sample(*map(min, zip(*map(astuple, samples)))) for samples in epochs]
    for number, (most, few) in enumerate(zip(peaks, least), 1):
        print(number, *(f"{f.name} {getattr(few, f.name)}-{getattr(most, f.name)}" for f in fields(Sample)))
    assert len(epochs) >= 5, "too slow a machine: give it more PICOQUANT_QAT_MINUTES"
    memory = [one.memory for one in peaks[1:]]
    middle = len(memory) // 2  # a moment's peak is seen in some epochs and missed in others
    assert max(memory[middle:]) <= 1.02 * max(memory[:middle])
    for later in least[2:-1]:  # a leak raises the least; a process or a handle may be there for a moment
        assert later.of_children <= 1.05 * least[1].of_children
        assert later.processes <= least[1].processes
        assert later.handles <= least[1].handles
        assert later.threads <= least[1].threads
        assert later.processes <= least[1].processes
