"""The verdict on a case: which outcomes are allowed, and which are faults."""

from __future__ import annotations

import json
import os
import re
import signal
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzzing.cases import LIMIT_S, Case
from fuzzing.operations import Facts
from mlrec.config import keys

GROWTH_BYTES = 1 << 30
SENTENCE_CHARACTERS = 2000
OUT_OF_MEMORY = re.compile(
    r"bad_alloc|to allocate|MemoryError|memory is full|out of memory|malloc of", re.IGNORECASE
)


@dataclass
class Verdict:
    """What a case came to."""

    outcome: str
    """"failure", "sentence", "quarantined", "identical" or "valid change"."""
    what: str
    problems: list[str]
    operations: dict[str, Any]


def judge(
    case: Case, folder: Path, status: int, growth: int, hung: bool, healthy: dict[str, Facts]
) -> Verdict:
    """The verdict on a case whose process has ended."""
    problems = []
    if hung:
        problems.append(f"still at work after {LIMIT_S:.0f} s")
    elif os.WIFSIGNALED(status):
        problems.append(f"killed by {signal.Signals(os.WTERMSIG(status)).name}")
    if growth > GROWTH_BYTES:
        problems.append(f"took {growth / 1e9:.1f} GB of memory")
    if (driver := folder / "driver").exists():
        problems.append(f"the driver failed: {driver.read_text()[-800:]}")
    done = folder / "outcome.json"
    path = done if done.exists() else folder / "what"
    if not path.exists():
        return Verdict(
            "failure",
            f"{case.file}: no mutation was made",
            problems or ["ended without an outcome"],
            {},
        )
    outcome = json.loads(path.read_text())
    if not done.exists():
        return Verdict("failure", outcome["what"], problems or [f"ended with status {status}"], {})
    problems += [f"touched {', '.join(name for name, _ in outcome['touched'])}"] * bool(
        outcome["touched"]
    )
    if not case.file.endswith(".yaml"):  # a user's configuration says where things are written
        problems += [f"wrote {', '.join(outcome['new'])}"] * bool(outcome["new"])
    results: dict[str, dict[str, Any]] = outcome["operations"]
    classes = set()
    for name, result in results.items():
        problems += [
            f"{name}: {problem}" for problem in faults(result) + vagueness(result, case.file)
        ]
        classes.add(_classify(result, healthy[name]))
        if result["code"] == 0 and case.kind.guarded and not outcome["sealed"]:
            problems += [
                f"{name}: undetected change of {key}"
                for key in _changed(result["facts"], healthy[name])
            ]
    problems += _contradictions(results)
    order = ("quarantined", "sentence", "valid change", "identical")
    best = next((kind for kind in order if kind in classes), "identical")
    return Verdict("failure" if problems else best, outcome["what"], problems, results)


def faults(result: dict[str, Any]) -> list[str]:
    """What is wrong with how an operation ended and what it printed, whatever the mutation."""
    printed, code = result["printed"], result["code"]
    if "raised" in result:
        return [result["raised"].strip().splitlines()[-1][:300] or "raised"]
    faults = []
    errors = [line for line in printed.splitlines() if line.startswith("error")]
    if "Traceback (most recent" in printed:
        return [f"a traceback: {(errors or printed.splitlines())[-1][:300]}"]
    if code not in (0, 1, 2):
        faults.append(f"exit code {code}")
    if code and len(errors) != 1:
        faults.append(f"{len(errors)} error lines for exit code {code}: {printed[-200:]!r}")
    elif code and not printed.rstrip("\n").endswith(errors[0]):
        faults.append(f"an error of several lines: {printed[-300:]!r}")
    if any(len(line) > SENTENCE_CHARACTERS for line in errors):
        faults.append(f"an error of {max(map(len, errors))} characters: {errors[0][:100]!r}")
    if OUT_OF_MEMORY.search(printed):
        faults.append(f"ran out of memory: {printed[-200:]!r}")
    if strange := {
        character
        for character in printed
        if unicodedata.category(character) in ("Cc", "Cf", "Cs") and character not in "\n\r\t"
    }:
        faults.append(f"prints {sorted(strange)!r}")
    return faults


def vagueness(result: dict[str, Any], file: str) -> list[str]:
    """An error must say where: the file, its folder, or a configuration's key."""
    errors = [line for line in result["printed"].splitlines() if line.startswith("error")]
    if not result["code"] or len(errors) != 1 or "Traceback (most recent" in result["printed"]:
        return []
    places = [part for part in Path(file).parts if len(part) > 3] or [file]
    if any(place in errors[0] for place in (*places, "item.options.")):
        return []
    if file.endswith(".yaml") and any(
        re.search(rf"\b{key}\b", errors[0]) for path in keys() for key in path.split(".")
    ):
        return []
    return [f"names no place: {errors[0][:300]}"]


def _changed(facts: Facts, healthy: Facts) -> list[str]:
    """Facts that differ from the healthy workspace's without a word."""
    if facts.get("check", "0") != "0":
        return []
    quarantined = any(key.startswith("quarantined") for key in facts)
    watched = [key for key in healthy if not (quarantined and key not in facts)]
    return [key for key in watched if facts.get(key) != healthy[key]]


def _classify(result: dict[str, Any], healthy: Facts) -> str:
    facts = result["facts"]
    if result["code"] != 0 or facts.get("check", "0") != "0":
        return "sentence"
    if any(key.startswith("quarantined") for key in facts):
        return "quarantined"
    return "identical" if facts == healthy else "valid change"


def _contradictions(results: dict[str, dict[str, Any]]) -> list[str]:
    """A data set in which check finds no fault must be one that training takes whole."""
    contradictions = []
    for check, load in (("check", "load"), ("check clips", "load clips")):
        if check in results and load in results and results[check]["facts"].get("check") == "0":
            facts = results[load]["facts"]
            bad = next(
                (f"{key}: {facts[key]}" for key in facts if key.startswith("quarantined")), ""
            )
            if results[load]["code"] or bad:
                contradictions.append(
                    f"check finds no fault, "
                    f"{load} ends with {bad or results[load]['printed'][-200:]!r}"
                )
    return contradictions
