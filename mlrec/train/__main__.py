"""deepspeed --module mlrec.train CONFIG ..., torchrun -m mlrec.train CONFIG ..."""

import sys

from mlrec.cli.main import run_command
from mlrec.runtime.entry_point import exit_with, run_main

if __name__ == "__main__":
    exit_with(run_main(lambda words: run_command(["train", *words]), sys.argv[1:]))
