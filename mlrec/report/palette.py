"""Colors and marker shapes of series, the same in figures, legends and tables."""

from __future__ import annotations

from markupsafe import Markup

GREY = "#7f8590"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#c26d9b", "#a87000", "#2b93cf", "#8a63d2", "#d1344e")
"""Colors of Okabe and Ito, the light ones darkened: each has a contrast of 3 or more to the cards
of the light and of the dark page."""
MARKERS = dict(zip((*PALETTE, GREY), "os^DvPX*o", strict=True))
"""matplotlib's marker for each color, so that series differ not by color alone."""

_OUTLINES = {
    "o": "M6 1a5 5 0 1 1 0 10a5 5 0 1 1 0-10z",
    "s": "M1.5 1.5h9v9h-9z",
    "^": "M6 1L11.3 10.5H.7z",
    "D": "M6 .3L11.7 6L6 11.7L.3 6z",
    "v": "M6 11L.7 1.5H11.3z",
    "P": "M4.2 1h3.6v3.2h3.2v3.6h-3.2v3.2h-3.6v-3.2h-3.2v-3.6h3.2z",
    "X": "M3.3 .8L6 3.5L8.7.8L11.2 3.3L8.5 6L11.2 8.7L8.7 11.2L6 8.5L3.3 11.2L.8 8.7L3.5 6L.8 3.3z",
    "*": "M6 .2l1.6 4 4.2.3-3.2 2.8 1 4.2L6 9.2l-3.6 2.3 1-4.2L.2 4.5l4.2-.3z",
}
"""Outlines of the markers in a box of 12 x 12."""


def swatch(color: str) -> Markup:
    """Return the marker of a color as an image the size of a letter; "o" for another color."""
    outline = _OUTLINES[MARKERS.get(color, "o")]
    return Markup(
        '<svg class="swatch" viewBox="0 0 12 12" aria-hidden="true"><path d="{}" fill="{}"/></svg>'
    ).format(outline, color)
