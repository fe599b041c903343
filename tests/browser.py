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
  const outside = [...doc.querySelectorAll("body *")].filter(sticksOut);
  seen.textContent = JSON.stringify({{
    title: doc.title,
    width: root.clientWidth,
    overflow_px: root.scrollWidth - root.clientWidth,
    sticking_out: outside.map((node) => node.tagName + "." + node.className),
    images: images.length,
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
