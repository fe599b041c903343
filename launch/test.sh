#!/usr/bin/env bash
# Check style, types and import contracts, and run all tests: bash launch/test.sh
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/install.sh

ruff check
ruff format --check
mypy
lint-imports

# Debian packages that some tests use, 170 MB together: OpenSSH between two machines, a real S3
# store, and a browser for the pages.
packages=(openssh-server openssh-client iproute2 radosgw ceph-mon ceph-osd ceph-common chromium)
if ! { command -v sshd && command -v radosgw && command -v chromium; } > /dev/null &&
    [ "$(id -u)" -eq 0 ] && command -v apt-get > /dev/null; then
    echo "Installing ${packages[*]} for the tests that use them."
    # Without them their tests are skipped, so a failure here is no error.
    {
        apt-get update &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"
    } &> /dev/null || true
fi
if command -v radosgw > /dev/null; then
    pytest -m radosgw
else
    echo "skipped: the tests against a real S3 store. Ceph is missing and cannot be installed here" \
        "(apt-get install radosgw ceph-mon ceph-osd ceph-common)"
fi
# Unit tests run in parallel, one file per process. The others start ranks, which need all cores.
pytest --numprocesses auto --maxprocesses 8 --dist loadfile tests/unit
pytest --ignore tests/unit
