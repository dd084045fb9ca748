"""Two hosts, as network namespaces of this machine (root's right), each with a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.training import several
from tests.utils.group.hosts import ROOT, log_of, start, two_hosts, why_not
from tests.utils.test_process_group import curve

pytestmark = pytest.mark.slow

OPTIONS = {"batch_size": 2, "checkpoint_steps": 5}
LOST = "the processes cannot go on: rank 1 on "


@pytest.fixture(scope="module")
def hosts():
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with two_hosts() as both:
        yield both


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hosts") / "one"
    folder.mkdir()
    several.run(folder, batch_size=4)
    return folder


def train(hosts, folder: Path, logs: Path, **options) -> list[subprocess.Popen]:
    folder.mkdir(exist_ok=True)
    return start(hosts, [several.__file__, str(folder), json.dumps({**OPTIONS, **options})], logs)


def ended(launchers: list[subprocess.Popen], seconds: float = 200) -> list[int]:
    try:
        return [one.wait(timeout=seconds) for one in launchers]
    finally:
        for one in launchers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(one.pid, signal.SIGKILL)


def same_curves(one: Path, two: Path) -> None:
    alone, shared = curve(one), curve(two)
    assert len(alone) == len(shared) == 24
    for left, right in zip(alone, shared):
        for name, value in left.items():
            assert right[name] == pytest.approx(value, rel=1e-3), (left["step"], name)


def steps_of(folder: Path) -> int:
    file = folder / "work/metrics.csv"
    return len(file.read_text().splitlines()) - 1 if file.is_file() else 0


def test_two_hosts_train_as_one_process(hosts, one, tmp_path_factory):
    folder = one.parent / "two"
    logs = tmp_path_factory.mktemp("logs")
    assert ended(train(hosts, folder, logs)) == [0, 0], log_of(logs, 0)[-2000:] + log_of(logs, 1)[-2000:]
    same_curves(one, folder)
    first, second = (json.loads((folder / f"end_{rank}.json").read_text()) for rank in (0, 1))
    assert first == second


@pytest.mark.parametrize("how", ["killed", "unplugged"])
def test_a_host_is_lost_and_the_job_resumed(hosts, one, tmp_path_factory, how):
    folder, logs = one.parent / how, tmp_path_factory.mktemp("logs")
    launchers = train(hosts, folder, logs)
    end = time.monotonic() + 150
    while steps_of(folder) < 7:
        assert time.monotonic() < end and all(one.poll() is None for one in launchers)
        time.sleep(0.05)
    began = time.monotonic()
    if how == "killed":
        os.killpg(launchers[1].pid, signal.SIGKILL)
        subprocess.run(hosts[1].command("true"), check=True)
        _kill_all_of(hosts[1])
    else:
        hosts[1].unplug()
    try:
        assert launchers[0].wait(timeout=90) != 0
    finally:
        hosts[1].plug()
        ended(launchers[1:])
        _kill_all_of(hosts[1])
    told = [line for line in log_of(logs, 0).splitlines() if LOST in line]
    assert len(told) == 1, log_of(logs, 0)
    assert time.monotonic() - began < (30 if how == "killed" else 80)
    assert steps_of(folder) < 24
    assert ended(train(hosts, folder, logs)) == [0, 0], log_of(logs, 0)[-2000:] + log_of(logs, 1)[-2000:]
    same_curves(one, folder)


def _kill_all_of(host) -> None:
    """End the processes that this test started in a namespace."""
    found = subprocess.run(["ip", "netns", "pids", host.name], check=True, capture_output=True, text=True)
    for number in found.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(number), signal.SIGKILL)


COMMAND = [
    "eval", "--config", "quickstart.yaml", "--weights", str(ROOT / "weights/quickstart.safetensors"), "--json",
    "--input-size", "96", "--set", "Synthetic.train_images=4", "--set", "Synthetic.val_images=22",
    "--set", "Synthetic.image_size=96", "--set", "worker_num=0",
]  # fmt: skip
SCRIPT = 'from picoquant.cli.main import main\n\nif __name__ == "__main__":\n    main()\n'


def test_two_hosts_without_a_shared_folder_evaluate_as_one_process(hosts, tmp_path):
    """Each generates the images for itself; the recipe of one of them is then another."""
    script = tmp_path / "command.py"
    script.write_text(SCRIPT)
    one, two = (evaluated(used, script, COMMAND, tmp_path) for used in (hosts[:1], hosts))
    assert one == two
    assert one["mAP"] > 0.3


def test_coco465_split_over_two_hosts(hosts, shared, tmp_path):
    script = tmp_path / "command.py"
    script.write_text(SCRIPT)
    weights, images = shared / "weights/picodet_xs_320_coco_lcnet.pdparams", shared / "datasets/coco465"
    command = ["eval", "--config", "picodet_xs_320_coco_lcnet.yml", "--weights", str(weights), "--json"]
    for text in (f"dataset_dir={images}", "image_dir=images", "anno_path=instances.json"):
        command += ["--set", f"EvalDataset.{text}"]
    one, two = (evaluated(used, script, command, tmp_path, 1500) for used in (hosts[:1], hosts))
    assert one == two
    assert one["mAP"] == pytest.approx(0.2491, abs=2e-4)


def evaluated(
    hosts, script: Path, command: list[str], folder: Path, seconds: float = 300
) -> dict[str, float]:
    """The numbers that rank 0 prints."""
    logs, launchers = folder / f"logs{len(hosts)}", []
    for place, host in enumerate(hosts):
        arguments = [str(script), *command, "--save-dir", str(folder / f"run_{host.name}")]
        launchers += start_one(hosts, place, arguments, logs)
    assert ended(launchers, seconds) == [0] * len(hosts), log_of(logs, 0)[-2000:]
    text = log_of(logs, 0)
    return json.loads(text[text.index('{\n  "backends"') :])["backends"]["paddle_dygraph"]


def test_another_recipe_on_one_host_is_a_line_on_both(hosts, tmp_path):
    script = tmp_path / "command.py"
    script.write_text(SCRIPT)
    logs, launchers = tmp_path / "logs", []
    for place, host in enumerate(hosts):
        changes = ["--set", f"Global.seed={place}", "--save-dir", str(tmp_path / f"run_{host.name}")]
        launchers += start_one(hosts, place, [str(script), *COMMAND, *changes], logs)
    assert 0 not in ended(launchers)
    for host in (0, 1):
        lines = [line for line in log_of(logs, host).splitlines() if "error: " in line]
        assert len(lines) == 1, log_of(logs, host)
        assert "error: rank 1 on " in lines[0] and " in: images; every host needs the same" in lines[0]


def start_one(hosts, place: int, script: list[str], logs: Path) -> list[subprocess.Popen]:
    return start(hosts, script, logs, only=place, port=45711)
