#!/usr/bin/env bash
# Lint, types, import contracts and all tests: bash launch/test.sh
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/install.sh

ruff check
ruff format --check
mypy
lint-imports

# Debian's programs that some tests use: two machines' OpenSSH, a real S3 store, a browser for the pages. Together 170 MB.
packages=(openssh-server openssh-client iproute2 radosgw ceph-mon ceph-osd ceph-common chromium)
if ! { command -v sshd && command -v radosgw && command -v chromium; } > /dev/null &&
    [ "$(id -u)" -eq 0 ] && command -v apt-get > /dev/null; then
    echo "Installing ${packages[*]} for the tests that use them."
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"; } &> /dev/null || true
fi
if command -v radosgw > /dev/null; then
    pytest -m radosgw
else
    echo "skipped: the tests against a real S3 store, for Ceph cannot be installed here (apt-get install radosgw ceph-mon ceph-osd ceph-common)"
fi
# Unit tests side by side, a file to a process; the others start ranks, which want the cores to themselves.
pytest --numprocesses auto --maxprocesses 8 --dist loadfile tests/unit
pytest --ignore tests/unit
