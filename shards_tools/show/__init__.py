"""Describe a data set.

facts.py          counts, media, split, sizes and popularity, as JSON or as a table
page.py           one page with items and their frames, distributions, and failures
"""
