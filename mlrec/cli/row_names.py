"""Names of rows of the tables in mlrec.models, read from their source.

The modules themselves import torch, which takes seconds. Completion has to answer at once.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

MODELS = Path(__file__).parents[1] / "models"

TABLE_OF_KEY = {
    "item.encoders": ("encoders/*.py", "ENCODERS"),
    "item.fusion": ("fusion.py", "FUSIONS"),
    "loss.name": ("losses.py", "LOSSES"),
    "recommender.name": ("recommenders/__init__.py", "RECOMMENDERS"),
}
"""Where the names are that a key may have: files, and the end of the names of their dicts."""


def row_names(key: str) -> list[str]:
    """Return the names of rows that are values of a key; none for other keys."""
    if key not in TABLE_OF_KEY:
        return []
    pattern, table = TABLE_OF_KEY[key]
    names: list[str] = []
    for path in sorted(MODELS.glob(pattern)):
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            names += _keys_of(statement, table)
    return names


def _keys_of(statement: ast.stmt, table: str) -> Iterator[str]:
    """Yield the texts that are keys of a dict, if the statement assigns it to such a name."""
    if isinstance(statement, ast.AnnAssign):
        target: ast.expr = statement.target
    elif isinstance(statement, ast.Assign):
        target = statement.targets[0]
    else:
        return
    is_table = isinstance(target, ast.Name) and target.id.endswith(table)
    if not is_table or not isinstance(statement.value, ast.Dict):
        return
    for key in statement.value.keys:
        if isinstance(key, ast.Constant):
            yield str(key.value)
