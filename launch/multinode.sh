#!/usr/bin/env bash
# Trains on the machines of a hostfile: bash launch/multinode.sh HOSTFILE [--elastic] CONFIG [key=value ...]
# This machine reaches each of them by ssh without a password, and all of them see this repository, its virtual environment
# and the run's folder under the same paths. The ranks of each see the GPUs that CUDA_VISIBLE_DEVICES shows there.
#
# A machine that fails ends the run on all; the same command goes on from the last checkpoint. With --elastic that happens by
# itself, on the machines that still answer ssh: the losses do not depend on their number.
# Ctrl-C and SIGTERM stop all ranks after the same step, with a checkpoint, within 25 s.
#
# Go over to the machines: NCCL_*, GLOO_*, TORCH_*, and the keys of stores and trackers (AWS_*, GOOGLE_*, AZURE_*, WANDB_*, HF_*).
# What a cluster may need, set before this script:
#   NCCL_SOCKET_IFNAME=eth0    where machines have several networks: the one on which they reach each other
#   NCCL_IB_HCA=mlx5           InfiniBand or RoCE: the adapters to use; NCCL finds them by itself on most clusters
#   NCCL_DEBUG=INFO            which network NCCL chose; look for NET/IB, for NET/Socket is the slow one
#   GLOO_SOCKET_IFNAME=eth0    the same for gloo, through which ranks agree on stops, and CPUs exchange everything
# data.cache_dir is a folder of each machine's own fast disk, not of the shared file system; data.cache_bytes its budget. With
# data.ownership=home the machines together keep the data set once, without it each keeps all that it has room for.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/install.sh

exec python -m mlrec.runtime.launcher "$@"
