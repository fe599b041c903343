"""Mutations of JSON and YAML: values that no writer would leave."""

from __future__ import annotations

import hashlib
import json
from random import Random
from typing import Any

import yaml

from fuzzing.unstructured import Mutation, flip

CANARY = "canary"
"""Folder beside and in the workspace that nothing may touch."""
VICTIM = b"a file of the user's\n"
ENTRY = {
    "path": f"../{CANARY}/victim",
    "size": len(VICTIM),
    "sha256": hashlib.sha256(VICTIM).hexdigest(),
}
"""A file of a data set that lies outside it."""
HOSTILE: list[Any] = [
    None,
    True,
    0,
    -1,
    1,
    2**31,
    -(2**63),
    2**63,
    10**30,
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    -float("inf"),
    "",
    "x",
    "7",
    "nan",
    "x" * 70_000,
    "\x1b]0;title\x07\x1b[31mred",
    "a\nb\x00\u202e",
    "[/]x[bold]",
    "<script>1</script>",
    f"../{CANARY}/victim",
    f"../../{CANARY}/victim",
    ENTRY,
    "/etc/passwd",
    "C:\\x",
    "items/../../x",
    "${oc.env:HOME}",
    "${seed}",
    "s3://user:secret@host/x",
    "\ud800",
    [],
    {},
    [[]],
    {"x": 1},
    [1, "2", None],
    list(range(3000)),
]
"""Values that take the place of another one in a document."""


def _nodes(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values of a document."""
    children = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    return [path, *(node for key, child in children for node in _nodes(child, (*path, key)))]


def mutate_tree(tree: Any, rng: Random) -> tuple[str, Any]:
    nodes = _nodes(tree)
    path = rng.choice(nodes[1:] or nodes)
    if not path:
        return "the document replaced", rng.choice(HOSTILE)
    parent = tree
    for key in path[:-1]:
        parent = parent[key]
    key, place = path[-1], ".".join(map(str, path))
    change = rng.choice(["set", "set", "set", "set", "near", "removed", "added", "doubled", "deep"])
    if change == "removed":
        del parent[key]
    elif change == "added" and isinstance(parent, dict):
        parent[rng.choice(["x", "", "__proto__", "a.b", "\x1b[31m", "x" * 5000])] = rng.choice(
            HOSTILE
        )
    elif change == "added" and isinstance(parent, list):
        parent.append(rng.choice([*HOSTILE, *[ENTRY] * 10]))
    elif change == "doubled" and isinstance(parent, list):
        parent.insert(key, parent[key])
    elif (
        change == "near"
        and isinstance(parent[key], int | float)
        and not isinstance(parent[key], bool)
    ):
        parent[key] = rng.choice(
            [parent[key] + 1, -parent[key], parent[key] * 10, float(parent[key]), str(parent[key])]
        )
    elif change == "deep":
        parent[key] = "DEEP"
    else:
        parent[key] = rng.choice(HOSTILE)
        change = f"set to {str(parent[key])[:40]!r}"
    return f"{place} {change}", tree


def mutate_json(content: bytes, rng: Random) -> Mutation:
    try:
        words, tree = mutate_tree(json.loads(content), rng)
    except ValueError:
        return flip(content, rng)
    depth = rng.choice([200, 20_000])
    return words, json.dumps(tree, indent=1).replace('"DEEP"', "[" * depth + "]" * depth).encode()


def mutate_json_lines(content: bytes, rng: Random) -> Mutation:
    lines = content.splitlines(keepends=True)
    place = rng.randrange(len(lines))
    words, line = mutate_json(lines[place], rng)
    lines[place] = b" ".join(line.split()) + b"\n"
    return f"line {place + 1}: {words}", b"".join(lines)


def mutate_yaml(content: bytes, rng: Random) -> Mutation:
    insertions = [
        "!!python/object/apply:os.system ['touch x']\n",
        "a: &a [x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n" * 2,
        "\tx: 1\n",
        f"base: [../{CANARY}/victim]\n",
        "base: [/etc/passwd]\n",
        "base: [run.yaml]\n",
        "base: [base.yaml, base.yaml]\n",
        "? [a]\n: 1\n",
        "seed: 0x1F\n",
        "seed: 010\n",
        "seed: 1_000\n",
        "<<: {seed: 1}\n",
        "seed: 12:30\n",
        "name: 0123\n",
    ]
    if rng.random() < 0.25:
        line = rng.choice(insertions)
        return f"line {line[:40]!r} added", rng.choice(
            [content + line.encode(), line.encode() + content]
        )
    words, tree = mutate_tree(yaml.safe_load(content), rng)
    depth = rng.choice([200, 5000])
    return words, yaml.safe_dump(tree).replace("DEEP", "[" * depth + "]" * depth).encode(
        "utf-8", "surrogateescape"
    )
