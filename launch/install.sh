# Set-up that the scripts beside this one share: `source launch/install.sh`, from the repository's root.
# It leaves a virtual environment active with mlrec and the exact versions of constraints.txt in it, and sets
#   launcher   the command that starts a run on this machine: a process per GPU, or two on a machine without
set -euo pipefail

if [ -z "${VIRTUAL_ENV:-}" ]; then
    if [ ! -f .venv/bin/activate ]; then
        python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mlrec needs python3, 3.11 or newer" >&2; exit 1; }
        python3 -m venv .venv
    fi
    source .venv/bin/activate
fi

# The stamp tells from which folder and with which requirements the environment was installed.
stamp="$PWD $(cat constraints.txt setup.py | sha256sum)"
if [ "$(cat "$VIRTUAL_ENV/mlrec.stamp" 2> /dev/null)" != "$stamp" ]; then
    echo "Installing mlrec into $VIRTUAL_ENV: 1.5 GB, about two minutes."
    # With DS_BUILD_OPS set DeepSpeed would compile all of its operators now; it compiles the few that are used on demand.
    env -u DS_BUILD_OPS python -m pip install --quiet --quiet --disable-pip-version-check -c constraints.txt -e '.[s3,dev]'
    echo "$stamp" > "$VIRTUAL_ENV/mlrec.stamp"
fi

gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
launcher=(python -m mlrec.runtime.launcher "localhost:$((gpus > 0 ? gpus : 2))")
# DeepSpeed would warn that it looked for a GPU and found none.
[ "$gpus" -gt 0 ] || export DS_ACCELERATOR=cpu
