"""python -m shards_tools COMMAND ..., the same as mlrec-shards COMMAND ..."""

from shards_tools.cli import main

if __name__ == "__main__":
    main()
