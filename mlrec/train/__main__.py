"""deepspeed --module mlrec.train CONFIG ..., torchrun -m mlrec.train CONFIG ..."""

import sys

from mlrec.runtime.entry_point import exit_with, run_main
from mlrec.train.loop import main

if __name__ == "__main__":
    exit_with(run_main(main, sys.argv[1:]))
