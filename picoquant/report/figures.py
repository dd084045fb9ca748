"""Matplotlib figures as reproducible SVG for an HTML page, in the page's colours and fonts, light or dark."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from typing import Any

WIDTH, HEIGHT = 4.4, 2.9  # inches, at 96 pixels each: as wide as a phone, so that letters stay readable there

# Placeholders, replaced by variables of the page's style sheet: matplotlib does not support `currentColor`.
INK, GRID, FP32, INT8 = "#010203", "#010204", "#010205", "#010206"
SERIES = ("#010211", "#010212", "#010213", "#010214", "#010215", "#010216")
_PAGE = {
    INK: "currentColor",
    GRID: "var(--line)",
    FP32: "var(--fp32)",
    INT8: "var(--int8)",
    **{stand_in: f"var(--series-{number})" for number, stand_in in enumerate(SERIES)},
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "font.size": 10, "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK,
    "xtick.color": INK, "ytick.color": INK, "grid.color": GRID, "grid.linewidth": 0.8, "axes.grid": True,
    "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8,
    "legend.frameon": False, "lines.linewidth": 1.6, "figure.constrained_layout.use": True,
}  # fmt: skip


def figure_svg(name: str, label: str, draw: Callable[[Any], None], height: float = HEIGHT) -> str:
    """A figure with one pair of axes as SVG.

    Args:
        name: letters and hyphens, unique on the page: the ids in the SVG begin with it.
        label: plain text that a screen reader reads instead of the picture.
        draw: called with the axes; it uses the colours of this module.
        height: inches.

    Returns: an `<svg>` element for a page that defines the variables of the colours (`--fp32`, `--line` …).
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    text = io.StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a glyph that matplotlib lacks is in the page's font
        figure = Figure(figsize=(WIDTH, height))
        figure.patch.set_visible(False)
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        axes.patch.set_visible(False)
        draw(axes)
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", metadata=no_metadata)
    return _for_page(text.getvalue(), name, label)


def _for_page(svg: str, name: str, label: str) -> str:
    from markupsafe import escape

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
    box = re.findall(r'viewBox="([^"]+)"', svg)[0]
    svg = re.sub(
        r"<svg[^>]*>",
        lambda _: f'<svg viewBox="{box}" role="img" aria-label="{escape(label)}">',
        svg,
        count=1,
    )
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"font: (?:[a-z]+ )*([\d.]+)px[^;\"]*", r"font-size: \1px", svg)
    for stand_in, value in _PAGE.items():
        svg = svg.replace(stand_in, value)
    return svg.strip()
