#!/usr/bin/env bash
# Train on the machines of a hostfile:
#   bash launch/multinode.sh HOSTFILE [--elastic] CONFIG [key=value ...]
# This machine must reach each of them by ssh without a password. All of them must see this
# repository, its virtual environment and the run's folder under the same paths. The ranks of a
# machine see the GPUs that CUDA_VISIBLE_DEVICES shows there.
#
# A machine that fails ends the run on all machines. The same command resumes it from the last
# checkpoint. With --elastic it restarts by itself, on the machines that still answer ssh. The
# losses do not depend on their number.
# Ctrl-C and SIGTERM stop all ranks after the same step, with a checkpoint, within 25 s.
#
# These variables are passed to the machines: NCCL_*, GLOO_*, TORCH_*, and the keys of storage and
# trackers (AWS_*, GOOGLE_*, AZURE_*, WANDB_*, HF_*). A cluster may need some of them:
#   NCCL_SOCKET_IFNAME=eth0    with several networks: the one on which machines reach each other
#   NCCL_IB_HCA=mlx5           InfiniBand or RoCE: the adapters; NCCL finds them on most clusters
#   NCCL_DEBUG=INFO            print the network NCCL chose: NET/IB is fast, NET/Socket is slow
#   GLOO_SOCKET_IFNAME=eth0    the same for gloo, which exchanges stops, and everything on CPUs
# Set data.cache_dir to a folder on each machine's own fast disk, not on the shared file system, and
# data.cache_bytes to its budget. With data.ownership=home the machines together cache the data set
# once. Without it, each machine caches as much as it has room for.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/install.sh

exec python -m mlrec.runtime.launcher "$@"
