"""Annotated images of two folders of `picoquant predict` beside each other, a row an image, as one JPEG.

picoquant predict IMAGES --model output/export --save-dir output/ --out fp32/
picoquant predict IMAGES --save-dir output/ --out int8/
python docs/images/side_by_side.py fp32/ int8/ --names FP32 INT8 --out docs/images/detections_fp32_int8.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

GAP, TITLE = 8, 34  # pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("left", type=Path, help="folder of annotated images")
    parser.add_argument("right", type=Path, help="the same images by another model")
    parser.add_argument("--names", nargs=2, default=("FP32", "INT8"), help="titles of the columns")
    parser.add_argument("--width", type=int, default=460, help="of an image, pixels")
    parser.add_argument("--quality", type=int, default=80, help="of the JPEG")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    files = sorted(path.name for path in chosen.left.glob("*.jpg"))
    rows = [
        np.hstack([_scaled(folder / name, chosen.width) for folder in (chosen.left, chosen.right)])[:, :-GAP]
        for name in files
    ]
    title = np.full((TITLE, rows[0].shape[1], 3), 255, np.uint8)
    for column, name in enumerate(chosen.names):
        place = (column * (chosen.width + GAP) + 4, TITLE - 10)
        cv2.putText(title, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.8, (0, 0, 0), 2, cv2.LINE_AA)
    sheet = np.vstack([title, *rows])[:-GAP]
    cv2.imwrite(str(chosen.out), sheet, [cv2.IMWRITE_JPEG_QUALITY, chosen.quality])
    print(f"{chosen.out}: {sheet.shape[1]} x {sheet.shape[0]}, {chosen.out.stat().st_size:,} bytes")


def _scaled(path: Path, width: int) -> np.ndarray:
    """The image at that width, with a white gap at its right and below it."""
    image = cv2.imread(str(path))
    if image is None:
        raise SystemExit(f"{path} is missing or no image")
    size = (width, round(image.shape[0] * width / image.shape[1]))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.copyMakeBorder(image, 0, GAP, 0, GAP, cv2.BORDER_CONSTANT, value=(255, 255, 255))


if __name__ == "__main__":
    main()
