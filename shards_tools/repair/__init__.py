"""Replace the damaged files of a data set by packing them again from its raw folder.

dataset.py        the order of the steps, and the checks before any of them
output.py         an output that publishes damaged files only
records.py        records of the intact item shards, so that these are not packed again
"""
