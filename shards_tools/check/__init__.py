"""Check a data set: every byte against its checksum, every item by decoding it.

dataset.py        the order of the checks
files.py          one file: members, length, sha256
decoding.py       items, decoded in threads while files are read
counts.py         counts and popularity, added up from the sequences
"""
