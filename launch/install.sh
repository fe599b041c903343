# Setup shared by the scripts in this folder: `source launch/install.sh` in the repository's root.
# It activates a virtual environment that holds mlrec and the exact versions of constraints.txt,
# creating it if necessary. It sets
#   launcher   the command that starts a run on this machine, with one process per GPU, or two
#              processes on a machine without GPUs
set -euo pipefail

if [ -z "${VIRTUAL_ENV:-}" ]; then
    if [ ! -f .venv/bin/activate ]; then
        if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            echo "mlrec needs Python 3.11 or newer. Install it as python3" >&2
            exit 1
        fi
        python3 -m venv .venv
    fi
    source .venv/bin/activate
fi

# The stamp records from which folder and with which requirements the environment was installed.
stamp="$PWD $(cat constraints.txt setup.py | sha256sum)"
if [ "$(cat "$VIRTUAL_ENV/mlrec.stamp" 2> /dev/null)" != "$stamp" ]; then
    echo "Installing mlrec into $VIRTUAL_ENV: 2 GB, or 6 GB with CUDA, in about two minutes."
    # With DS_BUILD_OPS set, DeepSpeed would compile all of its operators now. Without it, DeepSpeed
    # compiles the few that are used on demand.
    env -u DS_BUILD_OPS python -m pip install --quiet --quiet --disable-pip-version-check \
        -c constraints.txt -e '.[s3,dev]'
    echo "$stamp" > "$VIRTUAL_ENV/mlrec.stamp"
fi

gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
launcher=(python -m mlrec.runtime.launcher "localhost:$((gpus > 0 ? gpus : 2))")
# Without this, DeepSpeed would warn that it found no GPU.
[ "$gpus" -gt 0 ] || export DS_ACCELERATOR=cpu
