"""Read raw data: MicroLens' published layout, and people's own.

readers.py        the table of layouts of interactions; how to add one
pairs_tsv.py, pairs_csv.py   one reader each
interactions.py   what a reader returns
folder.py         the parts of a raw folder
ids.py            spellings of ids
listing.py        names, sizes and versions of files
encodings.py      names of encodings other than UTF-8, for messages
tables.py, item_tables.py    text tables; titles, likes and views
split.py          training, validation and test
"""
