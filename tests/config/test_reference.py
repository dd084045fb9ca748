"""`docs/recipe.md` is what the code says, and every key of a section is in it with its meaning."""

from __future__ import annotations

import re

import yaml

from picoquant.config.reference import reference
from picoquant.config.schema import schema


def test_the_page_is_the_codes(root):
    written = (root / "docs/recipe.md").read_text(encoding="utf-8")
    assert written == reference(), "python -m picoquant.config.reference > docs/recipe.md"


def test_every_key_that_a_recipe_may_have_is_in_it():
    page = reference()
    for section, keys in schema().items():
        assert f"`{section}`" in page or f"`{section}: " in page, section
        for key in keys or ():
            if section not in ("export", "Global"):
                assert f"| `{key}` |" in page, f"{section}.{key}"


def test_no_meaning_is_empty_and_a_default_is_yamls():
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.*) \|$", reference(), re.M)
    assert len(rows) > 80
    for key, default, meaning in rows:
        assert len(meaning) > 2, key
        if default not in ("needed", "empty"):
            yaml.safe_load(default.strip("`"))
    assert ("seed", "`0`", "of everything drawn at random.") in rows
