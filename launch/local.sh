#!/usr/bin/env bash
# Train on all GPUs of this machine, or in two CPU processes:
#   bash launch/local.sh CONFIG [key=value ...]
# Paths are relative to the repository's root. The same command resumes a run that was stopped.
# Ctrl-C and SIGTERM stop it after the current step, with a checkpoint, within 25 s.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/install.sh

exec "${launcher[@]}" "$@"
