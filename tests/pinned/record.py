"""Record what picoquant makes today: hashes and values, to be compared after its insides have moved.

python -m tests.pinned.record --out FILE [--only NAME ...] [--update] [--work DIR]

Needs `../shared` and Paddle Lite's opt (`picoquant toolchain install`, or PICOQUANT_LITE_OPT). One thread throughout:
how sums are divided among threads changes their last bits.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.pinned.calls import in_process
from tests.pinned.items import Items, hashed, of_run
from tests.pinned.machine import machine
from tests.pinned.scenarios import ASKED, COMMON, NETWORKS, RUNS, TARGETS, Network

ROOT = Path(__file__).resolve().parents[2]
SHARED = (ROOT / ".." / "shared").resolve()
PINS = Path(__file__).with_name("pins.json")
QUICK = ("help", "read_operators")  # scenarios without a run, a few seconds in all


@dataclass(frozen=True)
class Workshop:
    """A temporary folder in which runs are made once; paths given to commands are relative to it."""

    root: Path

    @classmethod
    def at(cls, root: Path) -> Workshop:
        """A workshop in a folder, with `../shared` linked into it."""
        root.mkdir(parents=True, exist_ok=True)
        if not (root / "shared").is_symlink():
            (root / "shared").symlink_to(SHARED)
        return cls(root.resolve())

    @property
    def environment(self) -> dict[str, str]:
        """Of every process: one thread, this checkout's picoquant, a fixed width of text."""
        return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "100"}

    def command(self, *arguments: str) -> str:
        """Stdout of a picoquant command.

        Raises: `RuntimeError` with its messages when it fails.
        """
        done = subprocess.run(
            [sys.executable, "-m", "picoquant", *arguments],
            capture_output=True,
            text=True,
            cwd=self.root,
            env=self.environment,
            timeout=3000,
        )
        if done.returncode:
            raise RuntimeError(
                f"picoquant {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}"
            )
        return done.stdout

    def call(self, name: str, **arguments: Any) -> Any:
        """One of `calls.CALLS` in a process of its own."""
        return in_process(name, arguments, self.root, self.environment)

    def run(self, name: str) -> Path:
        """The folder of a run, made at the first call: exported once a network, then quantised (and packaged)."""
        wanted, folder = RUNS[name], self.root / name
        if folder.is_dir():
            return folder
        exported = self.root / f"{wanted.network}_exported"
        settings = _network_settings(NETWORKS[wanted.network])
        if not exported.is_dir():
            self._stages(exported, settings, "export")
        shutil.copytree(exported, folder)
        texts = [*settings, *wanted.settings]
        self._stages(folder, texts, "evaluate" if wanted.evaluated else "quantize")
        if wanted.targets:
            targets = [part for target in wanted.targets for part in ("--target", target)]
            self.command("package", "--save-dir", folder.name, *targets)
        return folder

    def _stages(self, folder: Path, settings: Iterable[str], last: str) -> None:
        sets = [part for text in settings for part in ("--set", text)]
        recipe = ("run", "--config", "picodet_s_qat_dis.yaml", "--until", last)
        self.command(*recipe, "--save-dir", folder.name, *sets)


def _network_settings(network: Network) -> list[str]:
    sets = [
        f"Global.weights=shared/weights/{network.weights}",
        f"Global.input_size=[{network.input_size},{network.input_size}]",
        *network.settings,
        *COMMON,
    ]
    for number, section in enumerate(("TrainDataset", "EvalDataset")):
        sets += [
            f"{section}.dataset_dir=shared/datasets/{network.data}",
            f"{section}.image_dir={network.images[number]}",
            f"{section}.anno_path={network.annotations[number]}",
            f"{section}.sample_num={network.counts[number]}",
        ]
    return sets


def _help(work: Workshop, items: Items) -> None:
    texts = work.call("help_texts")
    items.values["commands"] = sorted(texts)
    items.values.update({f"{name} --help": hashed(text) for name, text in texts.items()})
    lines = (["targets"], ["targets", "--json"], ["targets", "show", "rv1126"])
    listing, as_json, shown = (one["stdout"] for one in work.call("command_lines", lines=lines))
    rows = [line.split() for line in listing.splitlines() if line.split()[0] in ("target", *TARGETS)]
    items.values["targets"] = hashed(json.dumps(rows))  # the widths of columns depend on all rows
    profiles = [profile for profile in json.loads(as_json) if profile["name"] in TARGETS]
    items.values["targets --json"] = hashed(json.dumps(profiles))
    items.values["targets show rv1126"] = hashed(shown)


def _read_operators(work: Workshop, items: Items) -> None:
    items.document("paddleslim's form", work.call("read_operators", folder=None))


def _run(name: str, work: Workshop, items: Items) -> None:
    folder = work.run(name)
    of_run(items, folder)
    if RUNS[name].targets:
        items.document("operators read", work.call("read_operators", folder=f"{name}/quantize"))
    if RUNS[name].evaluated:
        network = NETWORKS[RUNS[name].network]
        photos = [f"shared/datasets/{network.data}/{photo}" for photo in network.photos]
        out = work.root / f"{name}_predictions"
        for stage in ("export", "quantize"):
            common = ("--out", out.name, "--no-images", "--threads", "1", "--threshold", "0.3")
            work.command("predict", *photos, "--model", f"{name}/{stage}", *common)
            lines = (out / "detections.jsonl").read_text().splitlines()
            found = [json.loads(line) for line in lines]
            items.document(f"predict {stage}", found, structure=False)
            items.values[f"predict {stage}#lines"] = len(found)


def _check(name: str, work: Workshop, items: Items) -> None:
    work.run(name)
    # Copied files, so that what `check` writes is not among the run folder's names.
    copy = _copy(work, name, "check")
    lines = [["check", "--target", target, "--save-dir", copy, "--json"] for target in TARGETS]
    for target, one in zip(TARGETS, work.call("command_lines", lines=lines)):
        items.values[f"{target}#exit code"] = one["code"]
        if one["error"]:
            items.values[f"{target}#error"] = one["error"]
            continue
        found = json.loads(one["stdout"])
        items.document(target, found)
        items.values[f"{target}#npu_pieces"] = found["npu_pieces"]
        items.values[f"{target}#rules_broken"] = len(found["rules_broken"])


def _simulation(name: str, work: Workshop, items: Items) -> None:
    import numpy as np

    work.run(name)
    network = NETWORKS[RUNS[name].network]
    place = work.root / f"{name}_input.npy"
    np.save(place, _network_input(network, work.root / name / "quantize" / "infer_cfg.yml"))
    names = work.call("with_integer_rules", names=TARGETS)
    items.values["targets with integer rules"] = names
    found = work.call("simulate", folder=f"{name}/quantize", names=names, image=str(place))
    for target, outputs in found.items():
        for number, output in enumerate(outputs):
            items.bytes[f"{target}#output {number}"] = output.pop("sha256")
        items.values[f"{target}#outputs"] = outputs


def _network_input(network: Network, config: Path) -> Any:
    """`[1, 3, H, W]` of the network's first photo; made here, so that the simulation alone is recorded."""
    import cv2
    import numpy as np
    import yaml

    steps = {step["type"]: step for step in yaml.safe_load(config.read_text())["Preprocess"]}
    photo = cv2.imread(str(SHARED / "datasets" / network.data / network.photos[0]))
    height, width = steps["Resize"]["target_size"]
    photo = cv2.resize(photo, (width, height), interpolation=steps["Resize"]["interp"])
    mean, std = (np.float32(steps["NormalizeImage"][key]) for key in ("mean", "std"))
    values = (cv2.cvtColor(photo, cv2.COLOR_BGR2RGB).astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None])


def _analyze(name: str, work: Workshop, items: Items) -> None:
    work.run(name)
    copy = _copy(work, name, "analyze")
    found = json.loads(work.command("analyze", "--save-dir", copy, "--images", "1", "--json"))
    for kind in ("layers", "tensors"):
        items.values[f"{kind} count"] = len(found[kind])
    items.document("analysis", found, structure=False)  # layers are in the order of floats
    for file in ("analysis.csv", "tensors.csv"):
        items.bytes[file] = hashed((work.root / copy / "analyze" / file).read_bytes())


def _backends(name: str, work: Workshop, items: Items) -> None:
    work.run(name)
    copy = _copy(work, name, "backends")
    asked = ("--backend", "paddle", "--backend", "onnx", "--target", "rv1126", "--target", "generic_onnx")
    common = ("--threads", "1", "--images", "3", "--save-dir", copy, "--json")
    _rows(items, json.loads(work.command("eval", *asked, *common)), work.root / copy / "backends")


def _ladder(name: str, work: Workshop, items: Items) -> None:
    work.run(name)
    copy = _copy(work, name, "ladder")
    asked = ("--target", "rv1126", "--max-loss", "1")
    common = ("--threads", "1", "--images", "3", "--save-dir", copy, "--json")
    found = json.loads(work.command("eval", "--ladder", *asked, *common))
    items.values["steps"] = [step["name"] for step in found["ladder"]["steps"]]
    _rows(items, found, work.root / copy / "ladder")


def _rows(items: Items, found: dict[str, Any], folder: Path) -> None:
    rows = found.pop("backends")
    items.document("results", found, structure=False)
    items.values["rows"] = sorted(rows)
    for row, numbers in rows.items():
        items.document(f"row {row}", numbers, structure=False, parted=False)
        if "onnx_int8" not in row and row != "onnx":  # saturates on CPUs without VNNI, docs/onnx.md
            items.values[f"{row}#mAP"] = numbers["mAP"]
    for path in sorted(folder.glob("detections_*.json")):
        items.bytes[path.name] = hashed(path.read_bytes())


def _copy(work: Workshop, name: str, purpose: str) -> str:
    copy = f"{name}_{purpose}"
    shutil.rmtree(work.root / copy, ignore_errors=True)
    shutil.copytree(work.root / name, work.root / copy)
    return copy


QUESTIONS = {
    "check": _check,
    "simulation": _simulation,
    "analyze": _analyze,
    "backends": _backends,
    "ladder": _ladder,
}
SCENARIOS: dict[str, Callable[[Workshop, Items], None]] = {
    "help": _help,
    "read_operators": _read_operators,
    **{name: partial(_run, name) for name in RUNS},
    **{
        f"{name}_{question}": partial(QUESTIONS[question], name)
        for name, questions in ASKED.items()
        for question in questions
    },
}


def record_one(name: str, work: Workshop) -> dict[str, Any]:
    """Perform one of `SCENARIOS`: its `bytes` and `values`.

    Raises: `RuntimeError` when a command fails.
    """
    items = Items()
    SCENARIOS[name](work, items)
    return items.as_dict()


def record(names: Iterable[str], out: Path, kept: Mapping[str, Any], work: Workshop) -> None:
    """Perform scenarios and write `machine` and `scenarios` after each, one line of progress each.

    Args:
        names: of `SCENARIOS`.
        out: the JSON file.
        kept: scenarios recorded before, written with them.
        work: where runs are made.
    """
    found = dict(kept)
    for name in names:
        started, used = time.monotonic(), _processor_seconds()
        found[name] = record_one(name, work)
        ordered = {name: found[name] for name in SCENARIOS if name in found}
        out.write_text(as_text({"machine": machine(), "scenarios": ordered}), encoding="utf-8")
        count = sum(map(len, found[name].values()))
        spent = f"{time.monotonic() - started:.0f} s, {_processor_seconds() - used:.0f} s of CPU"
        print(f"{name}: {count} items, {spent}", flush=True)


def _processor_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def as_text(recorded: dict[str, Any]) -> str:
    """JSON with one line an item, so that a difference between two records is one of lines."""
    lines = ["{", f' "machine": {json.dumps(recorded["machine"])},', ' "scenarios": {']
    for name, kinds in recorded["scenarios"].items():
        lines.append(f"  {json.dumps(name)}: {{")
        for kind, items in kinds.items():
            lines.append(f"   {json.dumps(kind)}: {{")
            lines += [f"    {json.dumps(key)}: {json.dumps(value)}," for key, value in items.items()]
            lines[-1] = lines[-1].rstrip(",")
            lines.append("   },")
        lines[-1] = "   }"
        lines.append("  },")
    lines[-1] = "  }"
    return "\n".join([*lines, " }", "}", ""])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the JSON to write")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, metavar="NAME", help="of: %(choices)s")
    parser.add_argument("--update", action="store_true", help="keep what --out holds of other scenarios")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="keep the runs here, and use those that are here"
    )
    asked = parser.parse_args()
    kept: Mapping[str, Any] = {}
    if asked.update and asked.out.is_file():
        before = json.loads(asked.out.read_text(encoding="utf-8"))
        if before["machine"] != machine():
            parser.error(f"{asked.out} is of another machine; record all of it anew")
        kept = before["scenarios"]
    with tempfile.TemporaryDirectory(prefix="picoquant-pinned-") as scratch:
        work = Workshop.at(asked.work or Path(scratch))
        record(asked.only or SCENARIOS, asked.out, kept, work)


if __name__ == "__main__":
    main()
