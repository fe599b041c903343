"""Features of items that were computed before training, and their files.

files.py          read features of a folder or a file, and write a folder
vectors.py        vectors by raw id, and their checks
tables.py, arrays.py, json_rows.py   vectors as .parquet, as .npy and .pt, as .json
row_order.py, ids_files.py           raw ids for the rows of a file that has none
info.py           file names, and features.json
stored.py         features in the samples of a data set
join.py           features and items of a data set, joined by raw id
spelling.py       raw ids as the data set spells them
blocks.py         parts of an extraction, which can be interrupted
"""
