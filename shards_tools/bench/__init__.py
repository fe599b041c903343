"""Measure packing next to its limit.

packing.py        pack videos, and compare with decoding them
bare_decoding.py  decode the same videos and nothing else
"""
