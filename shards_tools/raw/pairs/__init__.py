"""Read interactions, from any usual layout, as Interactions.

readers.py        the table of files with interactions; how to add a layout
text.py, parquet.py, inter.py   one reader each
text_layout.py, text_blocks.py, columns.py   layouts of text, and names of columns
rows.py, lists.py   collect interactions of one row each, or lists
id_codes.py, times.py, dropped.py, packed.py   ids, times, malformed rows, long arrays
calendar_numbers.py   times such as 20230701
interactions.py   what a reader returns
cleaning.py, repeats.py, core.py   repeated items; users and items with few interactions
"""
