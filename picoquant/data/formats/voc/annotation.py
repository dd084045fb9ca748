"""Read one annotation file in Pascal VOC's XML format."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from picoquant.errors import DataError, reason_of

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Annotation:
    """One XML file.

    Attributes:
        image: name of its image; empty without one.
        width, height: of the image as stated there, pixels; 0 where the tool that wrote it did not know them.
        boxes: `[G, 4]` float64, as they stand there.
        names: class names, `G`.
        difficult: `[G]` bool.
    """

    image: str
    width: float
    height: float
    boxes: np.ndarray
    names: tuple[str, ...]
    difficult: np.ndarray


class _WrongElementError(Exception):
    """What is wrong with which element."""

    def __init__(self, element: ElementTree.Element, said: str) -> None:
        super().__init__(said)
        self.element = element


def read_annotation(path: Path) -> Annotation:
    """Read a file.

    Raises: `DataError` when it is missing or no VOC annotation, with the line and the element that is wrong.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; the list of images names it") from error
    try:
        if b"<!ENTITY" in data:  # none needs them, and they can be made to fill the memory
            raise ValueError("it declares entities")
        data = _in_utf8(data)
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise _no_annotation(path, reason_of(error)) from error
    try:
        return _annotation(root)
    except _WrongElementError as error:
        place = list(root.iter()).index(error.element)
        raise _no_annotation(path, f" (line {_lines(data)[place]}: {error})") from error


_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)["'][^>]*\?>""")


def _in_utf8(data: bytes) -> bytes:
    """A file in an encoding of several bytes a character that Python's XML parser does not read (GB2312, GBK, Big5,
    Shift-JIS …), in UTF-8; any other as it is.

    Raises: `ValueError` or `LookupError` where it is not in the encoding that it declares.
    """
    found = _DECLARED.match(data)
    if found is None or found.group(1).lower() in (b"utf-8", b"us-ascii", b"ascii", b"iso-8859-1"):
        return data
    text = data[found.end() :].decode(found.group(1).decode("ascii"))
    return b"\n" * data[: found.end()].count(b"\n") + text.encode()


def _no_annotation(path: Path, why: str) -> DataError:
    return DataError(f"{path} is no VOC annotation{why}; correct it or take it off the list")


def _annotation(root: ElementTree.Element) -> Annotation:
    size, objects = _child(root, "size"), root.findall("object")
    _require_seen(root, objects)
    width, height = (_number(size, side) for side in ("width", "height"))
    if (width, height) != (0, 0) and not (0 < width < 1e9 and 0 < height < 1e9):
        raise _WrongElementError(
            size, f"<size> is {width:g}x{height:g}: write the image's width and height there"
        )
    corners = []
    for found in objects:
        box = _child(found, "bndbox")
        corners.append([_number(box, corner) for corner in _CORNERS])
    return Annotation(
        (root.findtext("filename") or "").strip(),
        width,
        height,
        np.array(corners, np.float64).reshape(-1, 4),
        tuple(_text(found, "name") for found in objects),
        np.array(
            [
                (found.findtext("difficult") or "").strip().lower() in ("1", "true", "yes")
                for found in objects
            ],
            bool,
        ),
    )


def _require_seen(root: ElementTree.Element, objects: list[ElementTree.Element]) -> None:
    """Raises: `_WrongElementError` for an object that stands where none is looked for; parts of objects may."""
    seen = {id(inner) for found in objects for inner in found.iter()}
    for element in root.iter():
        if str(element.tag).lower() in ("object", "bndbox") and id(element) not in seen:
            raise _WrongElementError(
                element,
                f"<{element.tag}> must be an <object> of <{root.tag}> or its <bndbox>, written so",
            )


def _child(parent: ElementTree.Element, tag: str) -> ElementTree.Element:
    found = parent.findall(tag)
    if not found:
        raise _WrongElementError(parent, f"<{parent.tag}> has no <{tag}>")
    if len(found) > 1:
        raise _WrongElementError(found[1], f"<{parent.tag}> has several <{tag}>")
    return found[0]


def _text(parent: ElementTree.Element, tag: str) -> str:
    found = _child(parent, tag)
    text = (found.text or "").strip()
    if not text:
        raise _WrongElementError(found, f"<{tag}> of <{parent.tag}> is empty")
    return text


def _number(parent: ElementTree.Element, tag: str) -> float:
    text = _text(parent, tag)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _WrongElementError(
            _child(parent, tag), f"<{tag}> of <{parent.tag}> is {text[:40]!r}, no number"
        )
    return value


def _lines(data: bytes) -> list[int]:
    """The line on which each element starts, from 1, in the order of `Element.iter`."""
    lines: list[int] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda name, attributes: lines.append(parser.CurrentLineNumber)
    parser.Parse(data, True)
    return lines
