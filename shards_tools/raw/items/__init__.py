"""Read tables of items: titles, likes and views.

files.py          which files are read
tables.py         titles, likes and views of the items of the data
values.py         their rows, matched with the items
columns.py, text.py, parquet.py   how tables hold them
"""
