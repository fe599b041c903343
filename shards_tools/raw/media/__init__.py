"""Recognize the media files of items in folders and zip archives.

listing.py        the files of a raw folder, listed once
names.py          what the name of a media file says
layout.py         items or parts: folders whose names and files both have ids of items
archives.py       what archives hold
zips.py           members of zip archives, read in place
files.py          the media files of each item
raw_file.py       one of these files
report.py         what was recognized and what was not, in sentences
"""
