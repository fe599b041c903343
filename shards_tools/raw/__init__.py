"""Read raw data: MicroLens' published layout, and people's own.

readers.py        interactions, titles, likes and views
listing.py        files of items
tables.py, item_tables.py   text tables
split.py          training, validation and test
"""
