"""Read raw data: MicroLens' published layout, and people's own.

pairs/            interactions of users and items
items/            titles, likes and views of items
media/            videos, frames, covers and audio in folders and zip archives
folder.py         the parts of a raw folder
listing.py        names, sizes and versions of files
tables.py         bytes and text of tables, with progress
encodings.py      names of encodings other than UTF-8, for messages
split.py          training, validation and test
cut_offs.py       the times that a split by time is cut at
missing_pairs.py  the message about a folder without interactions
"""
