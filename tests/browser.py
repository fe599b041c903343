"""Pages in a real browser: headless Chromium, controlled by its command line."""

from __future__ import annotations

import importlib.resources
import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)
DESKTOP, PHONE = 1400, 400
"""Widths in CSS pixels."""
VIEWS = [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light"), (PHONE, "dark")]
"""Width and color scheme."""
_PREFERRED_SCHEME = {"dark": 0, "light": 1}
_AXE = importlib.resources.files("axe_core_python") / "axe.min.js"

_FRAME = """<!doctype html><meta charset="utf-8">
<meta name="color-scheme" content="light dark">
<style>body {{ margin: 0 }} iframe {{ border: 0; display: block }}</style>
<iframe id="frame" width="{width}" height="{height}" src="{page}"></iframe>
<pre id="seen" hidden></pre>
<script>
const load = (doc, source) => new Promise((loaded) => {{
  const script = doc.createElement("script");
  script.onload = loaded;
  script.src = source;
  doc.head.append(script);
}});
const inWords = (violation) =>
  violation.nodes.map((node) => `${{violation.id}} (${{violation.help}}): ${{node.html}}`);
const check = async (doc) => {{
  await load(doc, "{axe}");
  for (const details of doc.querySelectorAll("details")) details.open = true;
  const options = {{ resultTypes: ["violations"], iframes: false }};
  const {{ violations }} = await doc.defaultView.axe.run(doc, options);
  return violations;
}};
// What figures show: at the first mark under the pointer, and after two steps along the keyboard.
const shownValues = (doc) => [...doc.querySelectorAll(".plot:has(.marks)")].map((plot) => {{
  const {{ left, top, width, height }} = plot.querySelector(".marks rect").getBoundingClientRect();
  const [clientX, clientY] = [left + width / 2, top + height / 2];
  const tip = plot.querySelector(".tip");
  plot.dispatchEvent(new PointerEvent("pointermove", {{ clientX, clientY }}));
  const hovered = tip.innerText;
  plot.dispatchEvent(new PointerEvent("pointerleave"));
  const isHidden = tip.hidden;
  for (const _ of [1, 2]) plot.dispatchEvent(new KeyboardEvent("keydown", {{ key: "ArrowRight" }}));
  const stepped = tip.innerText;
  plot.dispatchEvent(new KeyboardEvent("keydown", {{ key: "Escape" }}));
  return {{ hovered, stepped, isHidden }};
}});
frame.onload = async () => {{
  const doc = frame.contentDocument, root = doc.documentElement, images = [...doc.images];
  const widthOf = (node) => Math.round(node.getBoundingClientRect().width);
  const isBroken = (image) => !image.complete || !image.naturalWidth;
  const sticksOut = (node) => node.getBoundingClientRect().right > root.clientWidth + 1
    && !node.closest(".scroll, pre, svg");
  const lines = (node, start, length) => {{
    const range = doc.createRange();
    range.setStart(node, start);
    range.setEnd(node, start + length);
    return new Set([...range.getClientRects()].map((rect) => Math.round(rect.top))).size;
  }};
  // words that would fit a line of any column, but are on two
  const broken = [];
  const texts = doc.createTreeWalker(doc.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {{
    if (texts.currentNode.parentElement.closest("svg, script, style")) continue;
    for (const word of texts.currentNode.data.matchAll(/[A-Za-z]{{2,14}}(?![A-Za-z])/g)) {{
      const isWhole = !/[A-Za-z]/.test(texts.currentNode.data[word.index - 1] || "");
      if (isWhole && lines(texts.currentNode, word.index, word[0].length) > 1) broken.push(word[0]);
    }}
  }}
  const outside = [...doc.querySelectorAll("body *")].filter(sticksOut);
  const measured = {{
    title: doc.title,
    width: root.clientWidth,
    overflow_px: root.scrollWidth - root.clientWidth,
    sticking_out: outside.map((node) => node.tagName + "." + node.className),
    broken_words: broken,
    images: images.length,
    without_alt: images.filter((image) => !image.alt).length,
    broken_images: images.filter(isBroken).length,
    cut_off: [...doc.querySelectorAll(".scroll")]
      .filter((node) => node.scrollWidth > node.clientWidth + 1).map((node) => node.className),
    figures: [...doc.querySelectorAll("svg[role=img]")].map(widthOf),
    names: [...doc.querySelectorAll("td + td")].map((cell) => cell.parentElement.cells[0])
      .map(widthOf),
    height: root.scrollHeight,
    text: doc.body.innerText,
    background: frame.contentWindow.getComputedStyle(doc.body).backgroundColor,
  }};
  measured.values = shownValues(doc);
  const violations = {check_accessibility} ? await check(doc) : [];
  measured.violations = violations.flatMap(inWords);
  seen.textContent = JSON.stringify(measured);
}};
</script>
"""


def look_at(page: Path, width: int, shot: Path, scheme: str = "light") -> dict[str, Any]:
    """Measure the page in a frame of `width` CSS pixels and save a screenshot.

    The frame may be narrower than the smallest window of Chromium. "violations" holds the
    findings of axe-core about accessibility, each with its rule and its element.

    Args:
        scheme: color scheme that the reader prefers, "light" or "dark".
    """
    assert CHROMIUM
    common = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--allow-file-access-from-files",
        f"--blink-settings=preferredColorScheme={_PREFERRED_SCHEME[scheme]}",
    ]
    common += [
        f"--user-data-dir={shot.parent / 'chromium'}",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ]
    frame = shot.with_suffix(".frame.html")

    def run(height: int, *wanted: str, check_accessibility: bool = False) -> str:
        frame.write_text(
            _FRAME.format(
                width=width,
                height=height,
                page=page.resolve().as_uri(),
                axe=Path(str(_AXE)).as_uri(),
                check_accessibility=json.dumps(check_accessibility),
            )
        )
        command = [
            CHROMIUM,
            *common,
            "--virtual-time-budget=20000",
            f"--window-size={width},{height}",
            *wanted,
            frame.as_uri(),
        ]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=120
        ).stdout

    dom = run(900, "--dump-dom", check_accessibility=True)
    (seen,) = re.findall(r'<pre id="seen" hidden="">(.*?)</pre>', dom, re.DOTALL)
    measured: dict[str, Any] = json.loads(unescape(seen))
    run(min(measured["height"], 12_000), f"--screenshot={shot}")
    is_dark = _brightness(measured["background"]) < 64
    assert is_dark == (scheme == "dark"), f"the {scheme} page is {measured['background']}"
    return measured


def _brightness(color: str) -> float:
    """Return the mean of red, green and blue in "rgb(R, G, B)", 0 to 255."""
    channels = [int(channel) for channel in re.findall(r"\d+", color)[:3]]
    return sum(channels) / 3
