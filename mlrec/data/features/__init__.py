"""Features of items that were computed before training, and their files.

files.py          a folder of features: vectors, ids, checksums, and what made them
tables.py         features as Parquet, by raw id
blocks.py         parts of an extraction, which can be interrupted
"""
