"""What the site of the documentation has beyond the files of docs/; mkdocs.yml names this file as a hook.

Pages that stand beside docs/ (README.md, CHANGELOG.md …) become pages under project/, and links between them and docs/
are turned accordingly. On the troubleshooting page each quoted message becomes a heading, so that the search finds it
and it has an address of its own.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
BESIDE = ("README.md", "README_cn.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
FOLDER = "project"
WORDS = 10  # of a message, in its anchor

_LINK = re.compile(r"!?\[(?P<text>(?:[^\]\[]|\[[^\]]*\])*)\]\((?P<target>[^()\s:#]+)(?P<anchor>#[^()\s]*)?\)")
_QUOTED = re.compile(r"^```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that stand beside docs/."""
    for name in BESIDE:
        files.append(File.generated(config, f"{FOLDER}/{name}", abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links that leave their folder; make headings of the messages on the troubleshooting page."""
    where = page.file.src_uri
    if where == "troubleshooting.md":
        markdown = with_headings(markdown)
    turn = _from_beside if where.startswith(f"{FOLDER}/") else _from_docs
    return _LINK.sub(turn, markdown)


def _from_beside(link: re.Match[str]) -> str:
    target = link["target"]
    if not target.startswith("docs/") and target not in BESIDE:
        return link["text"]  # a file that is no page: the Dockerfile
    return _with_target(link, re.sub(r"^docs/", "../", target))


def _from_docs(link: re.Match[str]) -> str:
    return _with_target(link, re.sub(r"^\.\./(?=\w)", f"{FOLDER}/", link["target"]))


def _with_target(link: re.Match[str], target: str) -> str:
    start = link.start("target") - link.start()
    return link[0][:start] + target + link[0][start + len(link["target"]) :]


def with_headings(markdown: str) -> str:
    """The page with a heading in place of each `text` block, which quotes a message."""
    used: set[str] = set()

    def heading(block: re.Match[str]) -> str:
        message = " ".join(block[1].split())
        anchor = base = "-".join(re.findall(r"[a-z0-9]+", message.lower())[:WORDS])
        number = 1
        while anchor in used:
            number += 1
            anchor = f"{base}-{number}"
        used.add(anchor)
        return f"### `` {message} `` {{ #{anchor} .message }}"

    return _QUOTED.sub(heading, markdown)
