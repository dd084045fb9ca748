"""What Paddle Lite's opt says it supports, and a target's list of operators written again from that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from picoquant.backends.paddle_lite.opt_tool import OptTool
from picoquant.errors import ConfigError, ToolError
from picoquant.storage.files import disk_errors, write_text
from picoquant.targets.operator_list import FOLDER, load_operators, operators_text
from picoquant.targets.profile_files import profile_path, read_profile
from picoquant.yaml_files.locate import shipped_folder


def ask_opt(opt: OptTool, device: str, valid_targets: str) -> tuple[str, ...]:
    """The operators that opt says a device takes; for a CPU (no device) those of its own kernels and the host's.

    Raises: `ToolError` when opt's answer is no table with the device in it.
    """
    target = device or valid_targets
    rows = [line.rstrip() for line in opt.supported_operators(target).splitlines()]
    header = next((row for row in rows if "OP_name" in row), "")
    wanted = [device] if device else ["kARM", "kHost"]
    ends = {name: header.find(name) + len(name) for name in header.split() if name != "OP_name"}
    if not header or not any(name in ends for name in wanted):
        raise ToolError(f"{opt.path} printed no table of operators for {target}: is it another version?")
    found = set()
    for row in rows[rows.index(header) + 1 :]:
        words = row.split()
        marks = {end for end in ends.values() if row[end - 1 : end] == "Y"}
        if words and marks & {ends[name] for name in wanted if name in ends}:
            found.add(words[0])
    return tuple(sorted(found))


def refresh_operators(names: Sequence[str], opt: OptTool) -> list[str]:
    """Refresh the lists that some targets name; a list that several share is written once.

    A shipped target's list is picoquant's own, a user's is beside his profile. A list may be missing.

    Args:
        names: shipped names or paths of profiles.
        opt: asked for its tables.

    Returns: a line for each list: where it is, and what changed.

    Raises: `ConfigError` for a profile without `paddle_lite`, `ToolError` when opt prints no table.
    """
    lines, done = [], set()
    for name in names:
        profile = profile_path(name)
        lite = read_profile(profile).get("paddle_lite")
        if lite is None:
            continue  # hardware that Paddle Lite does not reach has no list
        keys = ("operators", "device", "valid_targets")
        if not isinstance(lite, dict) or not all(isinstance(lite.get(key), str) for key in keys):
            raise ConfigError(f"{profile}: paddle_lite: the keys {', '.join(keys)} are needed")
        path = profile.parent / FOLDER / Path(lite["operators"]).name
        if path in done:
            continue
        done.add(path)
        lines.append(_refresh(path, profile, lite, opt))
    return lines


def _refresh(path: Path, profile: Path, lite: dict, opt: OptTool) -> str:
    now = ask_opt(opt, lite["device"], lite["valid_targets"])
    before: tuple[str, ...] = ()
    if path.is_file():
        before = load_operators(path.name, profile, str(profile)).names
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        device = lite["device"] or lite["valid_targets"]
        write_text(path, operators_text(now, opt.version, device))
    shown = path.name if path.is_relative_to(shipped_folder("npu_targets")) else str(path)
    new, gone = sorted(set(now) - set(before)), sorted(set(before) - set(now))
    changes = [f"+ {', '.join(new)}"] * bool(before and new) + [f"- {', '.join(gone)}"] * bool(gone)
    unchanged = ["as before" if before else "new"]
    return f"{shown}: {len(now)} operators, opt {opt.version}; {'; '.join(changes or unchanged)}"
