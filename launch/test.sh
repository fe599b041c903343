#!/usr/bin/env bash
# Check style, types and import contracts, and run all tests: bash launch/test.sh
# While you work on something, run the fast tests only: pytest -n auto -m "not slow" tests/unit
set -euo pipefail
cd "$(dirname "$0")/.."
extras=s3,dev
source launch/install.sh

# DeepSpeed compiles its CPU optimizer on first use, which takes a minute or two. The checks
# below leave a core idle for it.
if command -v g++ > /dev/null; then
    python -c 'from deepspeed.ops.op_builder import CPUAdamBuilder; CPUAdamBuilder().load()' &> /dev/null &
fi

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
wait

selected=""
if ! command -v radosgw > /dev/null; then
    echo "skipped: the tests against a real S3 store. Ceph is missing and cannot be installed here" \
        "(apt-get install radosgw ceph-mon ceph-osd ceph-common)"
    selected="not radosgw"
fi
# One process per core; more would make tests of time limits fail now and then. Each file runs in
# one process. The folders with the longest waits come first.
pytest --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder -m "$selected" \
    tests/integration tests/distributed tests/end_to_end tests/golden tests/unit
