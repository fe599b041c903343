#!/usr/bin/env bash
# Lint, types, import contracts and all tests: bash launch/test.sh
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/install.sh

ruff check
ruff format --check
mypy
lint-imports
pytest
