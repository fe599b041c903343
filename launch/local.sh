#!/usr/bin/env bash
# Trains on all GPUs of this machine, or on two CPU processes: bash launch/local.sh CONFIG [key=value ...]
# Paths are relative to the repository's root. The same command goes on where its run stopped.
# Ctrl-C and SIGTERM stop it after the step, with a checkpoint, within 25 s.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/install.sh

exec "${launcher[@]}" "$@"
