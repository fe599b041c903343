"""A seeded fuzz driver: one mutated file per case, read by the operations that read it, judged.

From the folder tests, `python -m fuzzing --cases 5000` runs many cases and prints a table by kind
of file. `python -m fuzzing --seed 0 --case 17` repeats one case and shows all its output.

    workspace.py    a healthy workspace: every kind of file, below one folder
    kinds.py        which files are mutated, and which operations read them
    mutations.py    one mutation of a file; documents.py, arrays.py, unstructured.py by format
    seals.py        checksums that fit the mutated file
    operations.py   the commands and functions that read, and digests of what they took
    cases.py        one case in a forked process
    judging.py      allowed outcomes and faults
"""
