"""The command `mlrec`.

main.py           the table of commands
"""
