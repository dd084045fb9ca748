"""Write the locks: every package that CI installs, with its version and SHA-256.

    python3.11 .ci/lock.py

requirements.lock is what pip would install for `.[dev,paddleslim]`, requirements-paddle3.lock for `.[dev]` with
PaddlePaddle 3, requirements-docs.lock for docs/requirements.txt; needs the network, installs nothing.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAD = "# What CI installs: Python 3.11, Linux x86-64. Made by .ci/lock.py; the ranges for users are in {}.\n"


def locked(*wanted: str) -> str:
    """Lines of a lock for what pip is asked to install."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--dry-run",
        "--ignore-installed",
        "--report",
        "-",
    ]
    said = subprocess.run([*command, *wanted], check=True, capture_output=True, text=True).stdout
    lines = []
    for entry in json.loads(said)["install"]:
        name = re.sub(r"[-_.]+", "-", entry["metadata"]["name"]).lower()
        if name == "picoquant":
            continue
        digest = entry["download_info"]["archive_info"]["hashes"]["sha256"]
        lines.append(f"{name}=={entry['metadata']['version']} \\\n    --hash=sha256:{digest}\n")
    return "".join(sorted(lines))


def main() -> None:
    """Ask pip and write the files."""
    if sys.version_info[:2] != (3, 11):
        raise SystemExit("the locks are for Python 3.11: run this with it")
    for file, ranges, wanted in (
        ("requirements.lock", "setup.cfg", [f"{ROOT}[dev,paddleslim]", "pip"]),
        ("requirements-paddle3.lock", "setup.cfg", [f"{ROOT}[dev]", "paddlepaddle>=3", "pip"]),
        ("requirements-docs.lock", "docs/requirements.txt", ["-r", f"{ROOT}/docs/requirements.txt", "pip"]),
    ):
        (ROOT / file).write_text(HEAD.format(ranges) + locked(*wanted), encoding="utf-8")


if __name__ == "__main__":
    main()
