"""For launchers: deepspeed --module mlrec.bench step CONFIG, torchrun -m mlrec.bench step CONFIG."""

import sys

from mlrec.bench import main
from mlrec.process import exit_with, run_main

if __name__ == "__main__":
    exit_with(run_main(main, sys.argv[1:]))
