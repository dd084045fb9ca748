"""The two READMEs say the same, and what they show is tried."""

from __future__ import annotations

import re
import shlex
import shutil
from functools import cache

import pytest
from click.testing import CliRunner

from picoquant.cli.main import cli
from picoquant.cli.tree import commands
from picoquant.config.recipe import load_recipe
from picoquant.yaml_files.locate import shipped
from tests.command_line import picoquant

LANGUAGES = ("README.md", "README_cn.md")
SMALL = ("-o", "TrainConfig.train_iter=2", "-o", "TrainConfig.eval_iter=2", "-o", "EvalReader.batch_size=2")


@pytest.fixture(scope="module")
def readmes(root):
    return [(root / name).read_text(encoding="utf-8") for name in LANGUAGES]


def blocks(text: str) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE) + re.findall(
        r"^    (\S.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )


def tables(text: str) -> list[list[list[str]]]:
    """The numbers of each cell of each row of each table."""
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            found[-1].append(
                [number for cell in line.split("|") for number in re.findall(r"\d[\d.,]*", cell)]
            )
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


def links(text: str) -> list[str]:
    return sorted(link for link in re.findall(r"\]\(([^)]+)\)", text) if link not in LANGUAGES)


def test_both_have_the_same_code(readmes):
    first, second = map(blocks, readmes)
    assert first == second and len(first) == 9


def test_both_have_the_same_numbers_in_their_tables(readmes):
    first, second = map(tables, readmes)
    assert first == second and first


def test_both_have_the_same_links_and_name_each_other(readmes):
    first, second = map(links, readmes)
    assert first == second and len(set(first)) >= 8
    assert "(README_cn.md)" in readmes[0].splitlines()[0]
    assert "(README.md)" in readmes[1].splitlines()[0]


def test_both_have_as_many_headings(readmes):
    first, second = (
        [line.split()[0] for line in text.splitlines() if line.startswith("#")] for text in readmes
    )
    assert first == second


def recipe_of(text: str) -> str:
    return next(block for block in blocks(text) if block.startswith("_BASE_"))


def test_an_own_data_set_is_five_lines(readmes, tmp_path):
    text = recipe_of(readmes[0])
    assert len(text.splitlines()) == 5
    (tmp_path / "cells.yaml").write_text(text)
    recipe = load_recipe(str(tmp_path / "cells.yaml"))
    assert recipe.common.weights == "best_model.pdparams"
    assert recipe.document["TrainDataset"]["anno_path"] == "instances_train.json"
    assert recipe.document["TrainConfig"]["train_iter"] == 60
    assert recipe.document["Quantize"]["method"] == "qat"


def of_paddledetection(text: str) -> list[str]:
    return next(block for block in blocks(text) if "-c my.yml" in block).splitlines()


def test_from_paddledetection_is_five_lines(readmes):
    assert len(of_paddledetection(readmes[0])) == 5


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the files that the README names: generated images, weights of one step."""
    home = tmp_path_factory.mktemp("readme")
    (home / "made.yaml").write_text(
        f"_BASE_: {shipped('recipes', 'quickstart')}\n"
        "Synthetic: {train_images: 8, val_images: 4, image_size: 96}\n"
        "Global: {input_size: [64, 64]}\nepoch: 1\nTrainReader: {batch_size: 4}\nEvalReader: {batch_size: 2}\n"
        "worker_num: 0\n"
    )
    done = picoquant("run", "-c", "made.yaml", "--save-dir", "made/", "--until", "train", cwd=home)
    assert done.returncode == 0, done.stderr
    data = home / "made/dataset"
    images = home / "cells/JPEGImages"
    shutil.copytree(data / "train", images)
    shutil.copytree(data / "val", images, dirs_exist_ok=True)
    for part in ("train", "val"):
        shutil.copy(data / f"annotations/instances_{part}.json", home / "cells")
    shutil.copy(home / "made/train/best.pdparams", home / "best_model.pdparams")
    return home


SLOW = "two runs of all stages on generated images"


@pytest.mark.slow(reason=SLOW)
def test_the_five_lines_run(readmes, home, opt):
    (home / "cells.yaml").write_text(recipe_of(readmes[0]))
    command = next(block for block in blocks(readmes[0]) if "cells.yaml" in block).strip()
    words = [*shlex.split(command)[1:], *SMALL, "--input-size", "64"]
    done = picoquant(*words, cwd=home, PICOQUANT_LITE_OPT=str(opt.path))
    assert done.returncode == 0, done.stderr
    assert (home / "output/cells/package/rv1126.tar.gz").is_file()


@pytest.mark.slow(reason=SLOW)
def test_the_lines_for_paddledetections_users_run(readmes, home, opt):
    """`my.yml` is a PaddleDetection file of its own: bases by its own paths, which are not beside it."""
    sets = "\n".join(
        f"{name}: !COCODataSet {{dataset_dir: cells, image_dir: JPEGImages, anno_path: instances_{part}.json}}"
        for name, part in (("TrainDataset", "train"), ("EvalDataset", "val"))
    )
    (home / "my.yml").write_text(f"_BASE_: [picodet_s_416_coco_npu.yml]\nworker_num: 0\n{sets}\n")
    for line in of_paddledetection(readmes[0]):
        words = shlex.split(line)[1:]
        if "-c" in words:
            words += ["--input-size", "64"]
        if words[0] == "run":
            words += SMALL
        done = picoquant(*words, cwd=home, PICOQUANT_LITE_OPT=str(opt.path))
        assert done.returncode == 0, (line, done.stderr)
    assert (home / "output/report.html").is_file()
    assert (home / "output/package/imx8mp.tar.gz").is_file()
    assert "simulation_rv1126_int8" in (home / "output/backends/results.csv").read_text()


@cache
def options_of(path: tuple[str, ...]) -> set[str]:
    """What the help of a command calls its options."""
    return set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", CliRunner().invoke(cli, [*path, "--help"]).output))


PATHS = {path for path, _ in commands(cli)}


def shown(text: str) -> list[str]:
    """Each command that a page shows: lines of code blocks, joined where they go on, and code within a line."""
    code = re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    code += re.findall(r"^(?:    .*\n)+", text, re.MULTILINE)
    lines = [line.strip() for block in code for line in re.sub(r"\\\n *", "", block).splitlines()]
    lines += [" ".join(inline.split()) for inline in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]
    return [line for line in lines if line.startswith("picoquant ")]


def test_commands_on_the_pages_have_the_options_they_are_shown_with(root):
    wrong, seen = [], 0
    for page in (*root.glob("*.md"), *(root / "docs").glob("*.md")):
        for line in shown(page.read_text(encoding="utf-8")):
            words = re.split(r"\s{3,}", line)[0].split()[1:]
            words = [word for word in words if word not in ("--debug", "…")]
            if "|" in words:
                continue
            path = next((tuple(words[:length]) for length in (2, 1) if tuple(words[:length]) in PATHS), ())
            if not path and words and re.match(r"[a-z]+$", words[0]):
                wrong.append(f"{page.name}: {line}: no such command")
            seen += 1
            for word in words:
                if re.match(r"--?[a-z]", word) and word.split("=")[0] not in options_of(path):
                    wrong.append(f"{page.name}: {line}: {word}")
    assert wrong == []
    assert seen > 100
