#!/usr/bin/env bash
# Lint, types, import contracts and all tests: bash launch/test.sh
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/install.sh

ruff check
ruff format --check
mypy
lint-imports

# The tests against a real S3 store need Ceph: 64 MB of Debian's packages.
ceph=(radosgw ceph-mon ceph-osd ceph-common)
if ! command -v radosgw > /dev/null && [ "$(id -u)" -eq 0 ] && command -v apt-get > /dev/null; then
    echo "Installing Ceph for the tests against a real S3 store."
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${ceph[@]}"; } &> /dev/null || true
fi
if command -v radosgw > /dev/null; then
    pytest -m radosgw
else
    echo "skipped: the tests against a real S3 store, for Ceph cannot be installed here (apt-get install ${ceph[*]})"
fi
pytest
