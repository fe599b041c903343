"""The README files, their code blocks and their headings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

READMES = tuple(
    ROOT / folder / "README.md" for folder in (".", "shards_tools", "configs", "launch", "mlrec")
)
"""Files whose commands and Python snippets are run."""

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Code:
    """A command or a snippet, and the READMEs that have it."""

    text: str
    files: str


def name_of(path: Path) -> str:
    """Return the path of a README within the repository."""
    return path.relative_to(ROOT).as_posix()


def without_blocks(text: str) -> str:
    """Return a text of Markdown without its code blocks."""
    return _BLOCK.sub("", text)


def blocks(text: str, tag: str) -> list[str]:
    """Return the code blocks of a text that have a tag; the empty tag is that of commands."""
    return [block for block_tag, block in _BLOCK.findall(text) if block_tag == tag]


def python_snippets() -> list[Code]:
    """Return the Python snippets of all READMEs, each once."""
    return _each_once({path: blocks(path.read_text(), "python") for path in READMES})


def commands(beginning: re.Pattern[str]) -> list[Code]:
    """Return the commands in blocks without a tag and in `code` of all READMEs, each once.

    Args:
        beginning: how a command begins.
    """
    return _each_once(
        {
            path: [code for code in _lines_and_spans(path.read_text()) if beginning.match(code)]
            for path in READMES
        }
    )


def _lines_and_spans(text: str) -> list[str]:
    lines = "".join(blocks(text, tag="")).splitlines()
    spans = re.findall(r"`([^`]+)`", without_blocks(text))
    return [
        *(re.sub(r"\s+#.*", "", line).strip() for line in lines),
        *(" ".join(span.split()) for span in spans),
    ]


def _each_once(codes_by_path: dict[Path, list[str]]) -> list[Code]:
    names_by_code: dict[str, list[str]] = {}
    for path, codes in codes_by_path.items():
        for code in dict.fromkeys(codes):
            names_by_code.setdefault(code, []).append(name_of(path))
    return [Code(code, " and ".join(names)) for code, names in names_by_code.items()]
