"""Pack items and sequences into tar shards.

items.py, media.py   one item's sample: frames or clip, cover, title, audio
sequences.py, catalogue.py   blocks of users; the catalogue
tar.py, output.py    tar shards with reproducible bytes; complete or absent files
pool.py, engines.py, ray_engine.py   processes of this machine, or of a Ray cluster
settings.py          what changes the packed bytes
"""
