"""Benchmarks of `mlrec bench`: where the time goes on this machine, next to measured limits.

Each of loader.py, step.py, prefix.py, evaluation.py and scale.py has a function `run(options)`,
which returns a Result on rank 0 and None on the others. `mlrec.cli.bench` has their command lines.
"""
