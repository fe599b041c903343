"""python -m mlrec COMMAND ..., torchrun -m mlrec COMMAND ..."""

from mlrec.cli.main import main

if __name__ == "__main__":
    main()
