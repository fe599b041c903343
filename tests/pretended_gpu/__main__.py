"""Run all checks and planted faults, and write a report.

python -m pretended_gpu DATASET FOLDER [BEGINNING ...]

Beginnings of names choose some checks. Without any, all checks and faults run.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from pretended_gpu.checks import CHECKS, run_check
from pretended_gpu.faults import FAULTS
from pretended_gpu.lab import Lab

REPORT_FILE = "report.json"


def main(dataset: Path, folder: Path, beginnings: list[str]) -> None:
    """Run the checks on a packed data set, and write the report into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    lab = Lab(dataset, folder)
    report: dict[str, dict[str, Any]] = {"checks": {}, "faults": {}}
    with lab.without_deepspeed():
        for name, check in CHECKS.items():
            if not beginnings or name.startswith(tuple(beginnings)):
                started_s = time.process_time()
                report["checks"][name] = run_check(lab, check).as_json()
                report["checks"][name]["seconds"] = time.process_time() - started_s
                if beginnings:
                    print(name, json.dumps(report["checks"][name], indent=1), file=sys.stderr)
        for name, fault in FAULTS.items():
            if not beginnings:
                with fault.plant():
                    report["faults"][name] = run_check(lab, fault.check).as_json()
    (folder / REPORT_FILE).write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    warnings.filterwarnings("ignore")
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), sys.argv[3:])
