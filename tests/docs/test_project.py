"""What a project shows to those who join: files, names and versions that must agree."""

from __future__ import annotations

import json
import re

import yaml
from click.testing import CliRunner

from picoquant.cli.main import cli
from picoquant.version import __version__


def test_the_citation_has_the_version(root):
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert citation["license"] == "Apache-2.0"


def test_the_changelog_has_the_version_or_what_will_be_it(root):
    changes = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[?([^\] \n]+)", changes, re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert __version__ in headings or f"the first release will be {__version__}" in changes


def test_issues_ask_for_what_doctor_says(root):
    forms = [path for path in (root / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml"]
    assert len(forms) == 3
    for path in forms:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        labels = [part["attributes"].get("label", "") for part in form["body"]]
        assert any(label.startswith("picoquant doctor --json") for label in labels), path.name
        ids = [part["id"] for part in form["body"] if "id" in part]
        assert len(ids) == len(set(ids))
    said = json.loads(CliRunner().invoke(cli, ["doctor", "--json"]).stdout)
    assert {"name", "ok", "found", "advice"} <= set(said["checks"][0]) and "ready" in said["verdict"]


def test_workflows_call_the_makefile_on_the_pythons_of_setup_cfg(root):
    workflow = yaml.safe_load((root / ".github/workflows/checks.yml").read_text(encoding="utf-8"))
    targets = re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    runs = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    made = [run.split()[-1] for run in runs if run.startswith("make ")]
    assert {"lint", "test", "wheel", "docs"} == set(made) and set(made) <= set(targets)
    setup = (root / "setup.cfg").read_text(encoding="utf-8")
    pythons = re.findall(r"Python :: (3\.\d+)$", setup, re.MULTILINE)
    assert workflow["jobs"]["tests"]["strategy"]["matrix"]["python"] == pythons
    assert "python_requires = >=3.9,<3.14" in setup and pythons == ["3.9", "3.10", "3.11", "3.12", "3.13"]


def test_folders_of_strict_types_are_there(root):
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    (block,) = re.findall(r"^files = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    named = re.findall(r'"([^"]+)"', block)
    assert len(named) >= 18 and all((root / name).exists() for name in named)
    assert named == sorted(named)


def test_no_ignored_type_is_without_a_reason(root):
    ignored = [
        f"{path.name}:{number}"
        for path in (root / "picoquant").rglob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if "type: ignore" in line and not re.search(r"type: ignore\[[a-z-]+\]  # \w", line)
    ]
    assert ignored == []
