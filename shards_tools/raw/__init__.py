"""Read raw data: MicroLens' published layout, and people's own.

readers.py        the table of files with interactions; how to add a layout
pairs_text.py, pairs_parquet.py, pairs_inter.py   one reader each
text_layout.py, text_blocks.py, columns.py   layouts of text, and names of columns
rows.py, lists.py   collect interactions of one row each, or lists, as Interactions
id_codes.py, times.py, dropped.py, packed.py   their ids, times, malformed rows and long arrays
calendar_numbers.py   times such as 20230701
interactions.py   what a reader returns
cleaning.py, repeats.py, core.py   repeated items; users and items with few interactions
folder.py         the parts of a raw folder
listing.py        names, sizes and versions of files
media_listing.py  the files of a raw folder, listed once
media_names.py    what the name of a media file says
media_layout.py   items or parts: folders whose names and files both have ids of items
media_archives.py what archives hold
media.py          the media files of each item, in folders and zip archives
raw_file.py       one of these files
media_report.py   what was recognized and what was not, in sentences
zips.py           members of zip archives, read in place
encodings.py      names of encodings other than UTF-8, for messages
tables.py         bytes and text of tables, with progress
item_tables.py    titles, likes and views
item_values.py    their rows, matched with the items of the data
item_columns.py, item_text.py, item_parquet.py   how tables of items hold them
split.py          training, validation and test
"""
