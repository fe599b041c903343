"""Features of items that were computed before training, and their files.

files.py          read and write a folder of features
info.py           file names, and features.json
join.py           features and items of a data set, joined by raw id
tables.py         features as Parquet, by raw id
blocks.py         parts of an extraction, which can be interrupted
"""
