#!/usr/bin/env bash
# Trains on the machines of a hostfile: bash launch/multinode.sh HOSTFILE CONFIG [key=value ...]
# This machine reaches each of them by ssh without a password (DeepSpeed starts them with pdsh), and all of them see
# this repository, its virtual environment and the run's folder under the same paths.
# Of the environment, NCCL_* and PYTHON* go over to them, and the NAME=value lines of ~/.deepspeed_env: put storage keys,
# WANDB_API_KEY and OMP_NUM_THREADS (a node's cores / its slots) there.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/install.sh
hostfile=$1
shift

deepspeed --hostfile "$hostfile" --module mlrec.train "$@"
