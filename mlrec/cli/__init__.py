"""The program `mlrec`: one small module per command, which imports heavy libraries when it runs.

main.py           the table of commands, and the program's entry point
commands.py       the convention of all commands: HELP texts, add_arguments(parser), run(options)
completion.py     words for the shell's Tab key
train.py, sweep.py            train
evaluate.py, compare.py, report.py, dashboard.py   results
export.py, recommend.py       serve
extract.py        features of the whole catalogue
bench.py          benchmarks
list.py           keys and tables
"""
