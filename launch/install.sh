# Setup shared by the scripts in this folder: `source launch/install.sh` in the repository's root.
# It installs what mlrec lacks into the active virtual or conda environment. Without one it takes
# .venv, or a Python that already holds torch, as in containers. If there is neither, it creates
# .venv. Where nothing is missing, it needs no network. It reads
#   extras     extras of setup.py to install as well, such as s3,dev
# and sets
#   launcher   the command that starts a run on this machine, with one process per GPU, or two
#              processes on a machine without GPUs
set -euo pipefail

check_version() {
    if ! "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "mlrec needs Python 3.11 or newer, but $(command -v "$1") is $("$1" -V). $2" >&2
        exit 1
    fi
}

environment=${VIRTUAL_ENV:-${CONDA_PREFIX:-}}
if [ -n "$environment" ] && [ -x "$environment/bin/python" ]; then
    PATH="$environment/bin:$PATH"
elif [ -f .venv/bin/activate ]; then
    source .venv/bin/activate
elif ! python launch/install.py --is-usable "${extras:-}" &> /dev/null; then
    check_version python3 "Install a newer one as python3"
    python3 -m venv .venv
    source .venv/bin/activate
fi
check_version python "Activate another environment, or deactivate this one to use .venv"
python launch/install.py "${extras:-}"

gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
launcher=(python -m mlrec.runtime.launcher "localhost:$((gpus > 0 ? gpus : 2))")
# Without this, DeepSpeed would warn that it found no GPU.
[ "$gpus" -gt 0 ] || export DS_ACCELERATOR=cpu
