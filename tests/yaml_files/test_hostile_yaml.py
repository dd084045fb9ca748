"""Files that would fill the memory or never end: each must be refused within a second and 200 MB."""

from __future__ import annotations

import subprocess
import sys

import pytest

_BEGIN = "a0: &a0 [1,1,1,1,1,1,1,1,1]\n"
LAUGHS = _BEGIN + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 9)}], k{n}: 1}}\n" for n in range(1, 12)
)
FILES = {
    "billion laughs": {"a.yml": LAUGHS},
    "billion laughs by merging": {"a.yml": MERGES},
    "lists nested deep": {"a.yml": "a: " + "[" * 100_000},
    "mappings nested deep": {"a.yml": "{a: " * 50_000},
    "blocks nested deep": {"a.yml": "\n".join(" " * n + "a:" for n in range(600))},
    "dashes nested deep": {"a.yml": "- " * 100_000},
    "an anchor that holds itself": {"a.yml": "a: &a [*a]\n"},
    "a mapping that merges itself": {"a.yml": "a: &a {<<: *a}\n"},
    "a mapping that is its own key": {"a.yml": "&a {*a : 1}\n"},
    "a hundred thousand entries": {"a.yml": "a: [" + "1," * 100_000 + "]"},
    "a number of 100,000 digits": {"a.yml": "a: " + "9" * 100_000},
    "a number to base 60 of 50,000 places": {"a.yml": "a: 1" + ":1" * 50_000},
    "four megabytes": {"a.yml": "a: '" + "x" * (4 << 20) + "'"},
    "a base that is itself": {"a.yml": "_BASE_: [a.yml]\n"},
    "bases in a circle": {"a.yml": "_BASE_: [b.yml]", "b.yml": "_BASE_: [c.yml]", "c.yml": "_BASE_: [a.yml]"},
    "bases that double": {
        **{f"b{n}.yml": f"_BASE_: [b{n + 1}.yml, b{n + 1}.yml]" for n in range(40)},
        "a.yml": "_BASE_: [b0.yml]", "b40.yml": "x: 1",
    },
    "a chain of 2,000 bases": {
        **{f"b{n}.yml": f"_BASE_: [b{n + 1}.yml]" for n in range(2000)},
        "a.yml": "_BASE_: [b0.yml]", "b2000.yml": "x: 1",
    },
    "a base that is a number": {"a.yml": "_BASE_: 5\n"},
    "a base that is a mapping": {"a.yml": "_BASE_: [{a: 1}]\n"},
    "a base of nobody's home": {"a.yml": "_BASE_: ['~no-such-user/a.yml']\n"},
    "a base with a zero byte": {"a.yml": '_BASE_: ["a\\0b.yml"]\n'},
    "code": {"a.yml": "a: !!python/object/apply:os.system ['touch ran']\n"},
    "code by another name": {"a.yml": "a: !!python/name:os.system\n"},
    "two documents": {"a.yml": "a: 1\n---\nb: 2\n"},
    "a list as key": {"a.yml": "? [1, 2]\n: 3\n"},
    "a day that is none": {"a.yml": "a: 2021-99-99\n"},
    "bytes that are no text": {"a.yml": b"a: \xff\xfe\xfa"},
    "a control character": {"a.yml": b"a: \x07"},
}  # fmt: skip

# One process for all: importing takes longer than any file may.
_CODE = """
import resource, sys, time
from pathlib import Path
from picoquant.yaml_files.load import load_with_bases
from picoquant.errors import ConfigError
limit = 200 << 20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
for path in map(Path, sys.argv[1:]):
    start = time.process_time()
    try:
        load_with_bases(path / "a.yml")
        said = "LOADED"
    except ConfigError as error:
        said = str(error)
    print(path.name, round(time.process_time() - start, 3), said.replace(chr(10), "|"), sep="\\t")
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, tuple[float, str]]:
    """Name -> CPU seconds, message."""
    root = tmp_path_factory.mktemp("hostile")
    folders = []
    for number, files in enumerate(FILES.values()):
        folder = root / str(number)
        folder.mkdir()
        folders.append(str(folder))
        for name, content in files.items():
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    done = subprocess.run(
        [sys.executable, "-c", _CODE, *folders], capture_output=True, text=True, cwd=root, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert not (root / "ran").exists()
    return {name: (float(line[1]), line[2]) for name, line in zip(FILES, lines)}


@pytest.mark.parametrize("name", FILES)
def test_refused_in_seconds_and_200_mb(outcomes, name):
    seconds, said = outcomes[name]
    assert said != "LOADED"
    assert seconds < 4  # below 1 on a fast machine, 2 on a slow one; what is not refused early takes minutes
    assert ".yml" in said and "|" not in said and len(said) < 600
