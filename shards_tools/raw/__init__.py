"""Read raw data: MicroLens' published layout, and people's own.

readers.py        the table of layouts of interactions; how to add one
pairs_tsv.py, pairs_csv.py   one reader each
interactions.py   what a reader returns
folder.py         the parts of a raw folder
ids.py            spellings of ids
listing.py        names, sizes and versions of files
encodings.py      names of encodings other than UTF-8, for messages
tables.py         bytes and text of tables, with progress
item_tables.py    titles, likes and views
item_columns.py, item_text.py, item_parquet.py   how tables of items hold them
split.py          training, validation and test
"""
