"""The commands of `mlrec-shards`, each with HELP, add_arguments(parser) and run(options).

A command imports heavy libraries only when it runs, so that its help appears at once.

synthetic.py, make.py, push.py   write a raw folder, a data set, a copy of a data set
check.py, repair.py              find and replace damaged files
show.py, bench.py                describe a data set, measure packing
common.py                        arguments and results that several commands share
"""
