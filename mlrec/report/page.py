"""Pages that need no network: templates whose texts are escaped, with style and pictures inside."""

from __future__ import annotations

import base64
import functools
import importlib.resources
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

import mlrec
from mlrec.report.contents import contents
from mlrec.report.escape import harmless
from mlrec.report.palette import swatch
from mlrec.report.wording import TIED
from mlrec.runtime.printable import counted

if TYPE_CHECKING:
    from mlrec.report.tables import Table

MADE_BY = "mlrec "
"""Start of every footer; the version follows."""
MAX_ROWS_AT_ONCE = 40
"""A table with more rows scrolls within its box, and says so."""


@dataclass(frozen=True)
class Drawing:
    """A figure of a page."""

    svg: Markup
    """The complete <svg> element."""
    label: str
    """Title of the figure."""
    legend: Mapping[str, str]
    """Color of each name; empty for a figure without legend."""
    note: str = ""
    """Sentences below the figure."""
    values: Table | None = None
    """The values of the figure, for readers who cannot hover over it."""
    over_log_steps: Drawing | None = None
    """The same over a logarithmic axis, shown on request; None without one."""


@dataclass(frozen=True)
class Picture:
    """An item as it is shown on a page."""

    url: Markup
    """Data URL of a JPEG file; empty if the item has no picture."""
    caption: str
    kind: str = ""
    """CSS classes: "next" for the item that was watched next, "hit" for a recommended one."""
    alt: str = ""
    """Text that stands for the picture; empty where the caption says as much."""


def picture(jpeg: bytes | None, caption: str, kind: str = "", alt: str = "") -> Picture:
    """Return a JPEG file as a picture of a page."""
    url = "" if jpeg is None else f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
    # base64 needs no escaping, and is longer than any text that a page shows
    return Picture(Markup(url), caption, kind, alt)


def render(template: str, values: Mapping[str, Any], package: str = "mlrec.report") -> str:
    """Return a page.

    Args:
        template: file in the templates folder of `package`; it extends page.html.
        values: names that the template uses.
    """
    return _environment(package).get_template(template).render(values)


@functools.cache
def _environment(package: str) -> jinja2.Environment:
    packages = dict.fromkeys((package, "mlrec.report"))
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name) for name in packages]),
        autoescape=True,
        # autoescape alone would let control characters and texts of any length through
        finalize=_escaped,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates = importlib.resources.files("mlrec.report") / "templates"
    environment.globals |= {
        "style": Markup((templates / "style.css").read_text(encoding="utf-8")),
        "script": Markup((templates / "hover.js").read_text(encoding="utf-8")),
        "swatch": swatch,
        "contents": contents,
        "breakable": breakable,
        "counted": counted,
        "made_by": MADE_BY,
        "version": mlrec.__version__,
        "tied_mark": TIED,
        "max_rows_at_once": MAX_ROWS_AT_ONCE,
    }
    return environment


def breakable(name: str) -> Markup:
    """Return the name of a run, escaped, which breaks after its separators before within a word."""
    return Markup(re.sub(r"([_/]+)(?=.)", r"\1<wbr>", str(_escaped(name))))


def _escaped(value: object) -> Markup:
    """Escape a value that a template prints, unless it is markup already."""
    return value if isinstance(value, Markup) else harmless(value)
