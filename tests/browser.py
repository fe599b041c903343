"""Pages in a real browser: headless Chromium, controlled by its command line."""

from __future__ import annotations

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
DESKTOP, PHONE = 1280, 390
"""CSS pixels."""

_FRAME = """<!doctype html><meta charset="utf-8">
<style>body {{ margin: 0 }} iframe {{ border: 0; display: block }}</style>
<iframe id="frame" width="{width}" height="{height}" src="{page}"></iframe>
<pre id="seen" hidden></pre>
<script>
frame.onload = () => {{
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
  seen.textContent = JSON.stringify({{
    title: doc.title,
    width: root.clientWidth,
    overflow_px: root.scrollWidth - root.clientWidth,
    sticking_out: outside.map((node) => node.tagName + "." + node.className),
    broken_words: broken,
    images: images.length,
    without_alt: images.filter((image) => !image.alt).length,
    broken_images: images.filter(isBroken).length,
    figures: [...doc.querySelectorAll("svg[role=img]")].map(widthOf),
    height: root.scrollHeight,
    text: doc.body.innerText,
  }});
}};
</script>
"""


def look_at(page: Path, width: int, shot: Path) -> dict[str, Any]:
    """Measure the page in a frame of `width` CSS pixels and save a screenshot.

    The frame may be narrower than the smallest window of Chromium.
    """
    assert CHROMIUM
    common = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--allow-file-access-from-files",
    ]
    common += [
        f"--user-data-dir={shot.parent / 'chromium'}",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ]
    frame = shot.with_suffix(".frame.html")

    def run(height: int, *wanted: str) -> str:
        frame.write_text(_FRAME.format(width=width, height=height, page=page.resolve().as_uri()))
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

    dom = run(900, "--dump-dom")
    (seen,) = re.findall(r'<pre id="seen" hidden="">(.*?)</pre>', dom, re.DOTALL)
    measured: dict[str, Any] = json.loads(unescape(seen))
    run(min(measured["height"], 12_000), f"--screenshot={shot}")
    return measured
