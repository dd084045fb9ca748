"""Links of the Markdown files to files and headings of this repository."""

from __future__ import annotations

import re
import subprocess

import pytest

LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^()\s]+)\)")
STAGES = ("train", "export", "quantize", "eval", "package", "report", "analyze", "predict")


def without_code(text: str) -> str:
    """The page without code blocks; links are looked for, and `code` may stand in a link's text."""
    return re.sub(r"^(```|~~~).*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchor(heading: str) -> str:
    """GitHub's anchor: lower case, no punctuation, hyphens for spaces."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip()).replace("`", "")
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def anchors(text: str) -> set[str]:
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.+)$", without_code(text), re.MULTILINE):
        name, number = anchor(heading), 0
        while (name if not number else f"{name}-{number}") in found:
            number += 1
        found.add(name if not number else f"{name}-{number}")
    return found


@pytest.fixture(scope="module")
def pages(root):
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    names = listed.stdout.split() if listed.returncode == 0 else []
    found = [root / name for name in names] or [*root.glob("*.md"), *(root / "docs").glob("*.md")]
    return {path: path.read_text(encoding="utf-8") for path in found if path.is_file()}


def test_links_lead_to_files_and_headings(pages, root):
    broken, count = [], 0
    for path, text in pages.items():
        for link in LINK.findall(without_code(text)):
            if re.match(r"[a-z]+:", link):
                continue
            name, _, part = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            count += 1
            if not target.exists() or (part and part not in anchors(target.read_text(encoding="utf-8"))):
                broken.append(f"{path.relative_to(root)}: {link}")
    assert broken == []
    assert count > 50


def test_the_index_has_every_page_once(root):
    index = (root / "docs/README.md").read_text(encoding="utf-8")
    pages = {path.name for path in (root / "docs").glob("*.md")} - {"README.md"}
    linked = [link for link in LINK.findall(index) if not link.startswith("..")]
    assert sorted(linked) == sorted(pages)


def test_each_stage_has_a_page(root):
    index = (root / "docs/README.md").read_text(encoding="utf-8")
    for stage in STAGES:
        row = next(line for line in index.splitlines() if re.match(rf"\|[^|]*`{stage}`", line))
        page = (root / "docs" / LINK.findall(row)[0]).read_text(encoding="utf-8")
        assert f"picoquant {stage}" in page


def test_anchors_are_githubs():
    text = "# Each `stage`, in [one](a.md) page!\n## Same\n## Same\n```\n# no heading\n```\n## INT8 − FP32: 数字\n"
    assert anchors(text) == {"each-stage-in-one-page", "same", "same-1", "int8--fp32-数字"}
    assert LINK.findall("a [b](c.md#d) and ![e](f.jpg) [g](https://h.i/j)") == [
        "c.md#d",
        "f.jpg",
        "https://h.i/j",
    ]
