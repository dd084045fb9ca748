"""Write requirements.lock: every package that CI installs, with its version and SHA-256.

    python3.11 .ci/lock.py

Asks pip what it would install for `.[dev]`; needs the network, installs nothing.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

HEAD = "# What CI installs: Python 3.11, Linux x86-64. Made by .ci/lock.py; the ranges for users are in setup.cfg.\n"


def main() -> None:
    """Ask pip and write the file."""
    root = Path(__file__).resolve().parents[1]
    if sys.version_info[:2] != (3, 11):
        raise SystemExit("the lock is for Python 3.11: run this with it")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    said = subprocess.run(
        [*command, "--report", "-", f"{root}[dev]", "pip"], check=True, capture_output=True, text=True
    ).stdout
    lines = []
    for entry in json.loads(said)["install"]:
        name = re.sub(r"[-_.]+", "-", entry["metadata"]["name"]).lower()
        if name == "picoquant":
            continue
        digest = entry["download_info"]["archive_info"]["hashes"]["sha256"]
        lines.append(f"{name}=={entry['metadata']['version']} \\\n    --hash=sha256:{digest}\n")
    (root / "requirements.lock").write_text(HEAD + "".join(sorted(lines)), encoding="utf-8")


if __name__ == "__main__":
    main()
