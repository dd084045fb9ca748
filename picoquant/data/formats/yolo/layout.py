"""Which images belong to a part of a YOLO data set, and where their labels are."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from picoquant.data.formats.files import FoundFiles, Listing, files_below, find_files, read_lines
from picoquant.data.formats.yolo.description import Description
from picoquant.data.images import SUFFIXES
from picoquant.errors import DataError

LOG = logging.getLogger("picoquant")

PART_NAMES = {  # part -> what its folder may be called
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_IMAGE_FOLDERS = ("images", "jpegimages")
_SAY_NOTHING = {"images", "labels", "data", "dataset", "datasets"}  # folders that every data set has


def part_names(root: Path, description: Description) -> list[str]:
    """The parts of a data set: those of `train`, `val` and `test` that are there, or `all` where it has none.

    A `test` that data.yaml names and that is not there is passed by: Roboflow names it in any case.
    """
    found = []
    for split in PART_NAMES:
        try:
            there = bool(part_sources(root, description, split))
        except DataError:
            there = split != "test"  # an error once it is read
        found += [split] if there else []
    return found or ["all"]


def part_sources(root: Path, description: Description, split: str) -> tuple[Path, ...]:
    """Image folders and lists of images of a part; none where the data set has no such part.

    Those that `description` names; without these, folders and lists of the usual names.

    Raises: `DataError` for a path that is not there, or may be one of two.
    """
    if split == "all":
        images = [
            root / name for name in ("images", "JPEGImages", "obj_train_data") if (root / name).is_dir()
        ]
        return (images[0] if images else root,)
    if description.parts:
        entries = description.parts.get(split, ())
        return tuple(_resolved(root, description, split, entry) for entry in entries)
    return _usual(root, split)


def _usual(root: Path, split: str) -> tuple[Path, ...]:
    names = PART_NAMES[split]
    listing = {path.name.lower(): path for path in sorted(root.glob("*"))}
    lists = [listing[f"{name}.txt"] for name in names if f"{name}.txt" in listing]
    folders = []
    for name in names:
        own = listing.get(name)
        below = [
            path / name for key, path in listing.items() if key in _IMAGE_FOLDERS and (path / name).is_dir()
        ]
        inside = [path for path in own.glob("*") if path.name.lower() in _IMAGE_FOLDERS] if own else []
        folders += below + (inside or ([own] if own and own.is_dir() else []))
    found = lists or folders
    if len(found) > 1:
        raise DataError(
            f"{root}: the part {split} may be {' or '.join(str(path.relative_to(root)) for path in found)}: "
            f"name one in data.yaml, `{split}: …`"
        )
    return tuple(found)


def _resolved(root: Path, description: Description, split: str, entry: str) -> Path:
    """A path of data.yaml: as written, from `path` or beside the file; then without its first folders.

    Roboflow writes `../train/images` for what is `train/images` beside the file.
    """
    plain = entry.replace("\\", "/")
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    bases = list(_bases(root, description))
    written = next((path for base in bases if (path := base / plain).exists()), None)
    shorter = [(parts[:start], parts[start:]) for start in range(1, len(parts))]
    inside = next(
        (
            path
            for dropped, rest in shorter
            if set(dropped) == {".."} or not set(map(str.lower, rest)) <= _SAY_NOTHING
            for base in bases
            if (path := base.joinpath(*rest)).exists()
        ),
        None,
    )
    if written is None and inside is None:
        looked = ", ".join(str(base / plain) for base in bases)
        raise DataError(f"{description.file}: {split} is {entry!r}, which is not there (looked for {looked})")
    if written is None:
        return inside
    if parts[0] == ".." and inside is not None and not written.samefile(inside):
        raise DataError(
            f"{description.file}: {split} is {entry!r}, which may be {os.path.normpath(written)} or {inside}: write an "
            "absolute path"
        )
    return written


def _bases(root: Path, description: Description) -> Iterator[Path]:
    """Where the paths of a data.yaml may count from."""
    if description.base is not None:
        base = description.base.replace("\\", "/")
        yield from (folder for folder in (description.file.parent / base, Path(base)) if folder.is_dir())
    yield description.file.parent
    if root != description.file.parent:
        yield root


@dataclass(frozen=True)
class PartFiles:
    """The images of a part, and their labels.

    Attributes:
        images: files, each once, in the order of their paths or of the list.
        labels: of each image its label file; None: there is none.
        expected: of each image where its label file would be.
        orphans: label files beside these whose images are not there.
    """

    images: FoundFiles
    labels: list[str | None]
    expected: list[str]
    orphans: list[str]


def part_files(root: Path, sources: Sequence[Path], section: str) -> PartFiles:
    """Images and labels of folders and lists of images.

    Raises: `DataError` when there is no image.
    """
    paths: list[str] = []
    missing: set[str] = set()
    renamed: Mapping[str, str] = {}
    whole = True
    for source in sources:
        if source.is_dir():
            paths += sorted(files_below(source, SUFFIXES))
            continue
        names = read_lines(source, "the data set")
        found = min(
            (find_files(base, names) for base in dict.fromkeys((source.parent, root, Path()))),
            key=lambda files: len(files.missing),
        )
        missing |= {found.paths[place] for place in found.missing}
        renamed = {**renamed, **{found.paths[place]: names[place] for place in found.renamed}}
        paths += found.paths
        whole = False
    once = list(dict.fromkeys(os.path.normpath(path) for path in paths))
    if not once:
        raise DataError(
            f"no image ({', '.join(SUFFIXES)}) in {', '.join(map(str, sources))}; {section}.dataset_dir and "
            f"{section}.image_dir, or data.yaml, name it"
        )
    if len(once) < len(paths):
        LOG.warning("%s: %d images are listed more than once: taken once", section, len(paths) - len(once))
    missing = set(map(os.path.normpath, missing))
    if renamed:
        path, name = next(iter(renamed.items()))
        LOG.info(
            "%s: %d images are found under another name than written, such as %s for %s",
            section,
            len(renamed),
            path,
            name,
        )
    listing, folders = Listing(), {}
    labels, expected = [], []
    for path in once:
        places = list(_label_places(path, listing, folders))
        expected.append(places[0])
        written = next((place for place in places if listing.holds(place)), None)
        alike = (listing.alike(*os.path.split(place)) for place in places)  # other case, another Unicode form
        labels.append(written or next((place for place in alike if place is not None), None))
    _tell_shared(once, labels, section)
    images = FoundFiles(once, frozenset(place for place, path in enumerate(once) if path in missing), ())
    orphans = _orphans(listing, labels, expected) if whole else []
    return PartFiles(images, labels, expected, orphans)


def _tell_shared(images: Sequence[str], labels: Sequence[str | None], section: str) -> None:
    """Say how many images have the label file of another one: their names differ in the suffix alone."""
    first: dict[str, str] = {}
    shared = []
    for image, label in zip(images, labels):
        if label is not None and first.setdefault(label, image) != image:
            shared.append((first[label], image, label))
    if shared:
        LOG.warning(
            "%s: %d images have the label file of another image, such as %s and %s with %s: leave one of the two out "
            "where they are not the same picture",
            section,
            len(shared),
            *shared[0],
        )


def _label_places(image: str, listing: Listing, known: dict[str, tuple[str, ...]]) -> Iterator[str]:
    """Where the labels of an image may be: in `labels/` in place of the last `images/`, or beside the image."""
    folder, name = os.path.split(image)
    leaf = f"{os.path.splitext(name)[0]}.txt"
    parts = folder.split(os.sep)
    last = next((i for i in reversed(range(len(parts))) if parts[i].lower() in _IMAGE_FOLDERS), None)
    if last is not None:
        parent = os.sep.join(parts[:last])
        if parent not in known:
            known[parent] = _label_folders(parent, listing)
        for labels in known[parent]:
            yield os.sep.join([*parts[:last], labels, *parts[last + 1 :], leaf])
    yield os.path.join(folder, leaf)


def _label_folders(parent: str, listing: Listing) -> tuple[str, ...]:
    """`labels`, and what is called so in other case beside it."""
    return ("labels", *sorted(name for name in listing.names(parent) if name.lower() == "labels" != name))


def _orphans(listing: Listing, labels: Sequence[str | None], expected: Sequence[str]) -> list[str]:
    """Files in folders of labels that belong to no image."""
    taken = {label for label in labels if label is not None}
    folders = sorted({os.path.dirname(path) for path in (*taken, *expected)})
    kept = [folder for folder in folders if {part.lower() for part in folder.split(os.sep)} & {"labels"}]
    every = [os.path.join(folder, name) for folder in kept for name in sorted(listing.names(folder))]
    return [
        path
        for path in every
        if path.lower().endswith(".txt")
        and path not in taken
        and os.path.basename(path) != "classes.txt"
        and not os.path.basename(path).startswith(".")
    ]
