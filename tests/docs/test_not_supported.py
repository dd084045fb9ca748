"""What is not supported is one list, and every error for one of its entries names the list."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from picoquant.errors import NOT_SUPPORTED
from tests.docs.test_troubleshooting import occurs

LISTED = "\1"  # where a message takes in the name of the list


def messages(root) -> Iterator[str]:
    """The texts of errors in the source, `LISTED` where they take in the name of the list."""
    for path in sorted((root / "picoquant").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(
                    str(part.value)
                    if isinstance(part, ast.Constant)
                    else LISTED
                    if ast.unparse(part.value) == "NOT_SUPPORTED"
                    else "\0"
                    for part in node.values
                )


@pytest.fixture(scope="module")
def listed(root) -> list[str]:
    return [text for text in messages(root) if LISTED in text]


@pytest.fixture(scope="module")
def rows(root) -> list[list[str]]:
    page = (root / "docs/files_of_others.md").read_text(encoding="utf-8")
    section = re.split(r"\n###? ", page.split("## Not supported", 1)[1], maxsplit=1)[0]
    assert NOT_SUPPORTED in section
    return [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]


def test_every_quoted_message_names_the_list(rows, listed):
    quoted = [text for row in rows for text in re.findall(r"`([^`]+)`", row[2]) if " " in text]
    assert len(quoted) > 15
    assert [text for text in quoted if not any(occurs(text, known) for known in listed)] == []


def test_every_message_that_names_the_list_is_in_it(rows, listed):
    quoted = [text for row in rows for text in re.findall(r"`([^`]+)`", row[2]) if " " in text]
    assert [known for known in listed if not any(occurs(text, known) for text in quoted)] == []


def test_no_refusal_forgets_the_list(root):
    """What a message calls not supported, or known only in one form, is in the list."""
    forgotten = [
        text
        for text in messages(root)
        if re.search(r"is not supported|not supported in", text) and LISTED not in text
    ]
    # A recipe's own keys that have a few values, which the message names.
    assert [text for text in forgotten if "known: " not in text] == []


def test_an_error_as_a_user_sees_it(tmp_path):
    from picoquant.config.slim import slim_overrides
    from picoquant.errors import ConfigError

    (tmp_path / "slim.yml").write_text("slim: OFA\n")
    with pytest.raises(ConfigError, match=re.escape(NOT_SUPPORTED) + "$"):
        slim_overrides(str(tmp_path / "slim.yml"))
