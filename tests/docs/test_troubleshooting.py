"""docs/troubleshooting.md quotes picoquant's messages in `text` blocks; each must be in the source."""

from __future__ import annotations

import ast
import re

import pytest

HOLE = "\0"  # what a message takes in: a name, a number
LEAST = 10  # letters of a quotation that are no holes


def template(node: ast.expr) -> str | None:
    """The text of a literal with `HOLE` for each thing that is put in; None for other expressions."""
    if isinstance(node, ast.Constant):
        return re.sub(r"%[.\d]*[sdgfr]", HOLE, node.value) if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else HOLE for part in node.values)
    return None


@pytest.fixture(scope="module")
def templates(root):
    found = set()
    for path in sorted((root / "picoquant").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = template(node)
            if text and len(text) >= LEAST:
                found.add(" ".join(text.split()))
    for path in sorted((root / "picoquant/packaging/board").rglob("*")):
        if path.suffix in (".cpp", ".sh", ".cmake"):
            found |= set(templates_of_the_board(path.read_text(encoding="utf-8"), path.suffix == ".cpp"))
    return found


def templates_of_the_board(source: str, cpp: bool) -> list[str]:
    """The literals of a program in C++, or of a script, `HOLE` for what stands between those of one statement."""
    made: list[str] = []
    end = 0
    for literal in re.finditer(r'"((?:[^"\\\n]|\\.)*)"', source):
        between = source[end : literal.start()]
        if made and not re.search(r"[;{}]" if cpp else r"\n", between):
            made[-1] += (HOLE if between.strip() else "") + literal[1]
        else:
            made.append(literal[1])
        end = literal.end()
    return [re.sub(r"\$\{?\w+(:-[^}]*)?\}?", HOLE, " ".join(text.split())) for text in made]


def occurs(quotation: str, text: str) -> bool:
    """Whether the parts between `…` are in a message in this order, without a hole in any of them."""
    parts = [part.strip() for part in quotation.split("…")]
    pattern = ".*".join(re.escape(part) for part in parts if part)
    return re.search(pattern, text, re.DOTALL) is not None


def quotations(page: str) -> list[str]:
    blocks = re.findall(r"^```text\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return [" ".join(block.split()) for block in blocks]


def test_every_quoted_message_is_in_the_source(root, templates):
    page = (root / "docs/troubleshooting.md").read_text(encoding="utf-8")
    quoted = quotations(page)
    assert len(quoted) > 60
    assert [text for text in quoted if not any(occurs(text, known) for known in templates)] == []


def test_a_quotation_is_long_enough_to_be_found(root):
    page = (root / "docs/troubleshooting.md").read_text(encoding="utf-8")
    for text in quotations(page):
        assert len(re.sub(r"[^a-z]", "", text)) >= LEAST, text


def test_what_counts_as_the_same_message():
    made = template(ast.parse('f"{path}: {count} boxes of {name} are gone"', mode="eval").body)
    assert occurs("…: … boxes of … are gone", made)
    assert occurs("boxes of", made)
    assert not occurs("…: 5 boxes of … are gone", made)
    assert not occurs("are gone … boxes", made)
    assert occurs(
        "going on without … missing", template(ast.parse('"%s: going on without %d missing"').body[0].value)
    )


def test_texts_of_the_board_s_program():
    cpp = (
        'throw BadInput(path + " has " + std::to_string(bits) +\n  " bits; " "known are 16");\nsay("other");'
    )
    assert templates_of_the_board(cpp, True) == [f" has {HOLE} bits; known are 16".strip(), "other"]
    assert templates_of_the_board('stop "no $A here: ${B:-none}"\nsay "x"', False) == [
        f"no {HOLE} here: {HOLE}",
        "x",
    ]
