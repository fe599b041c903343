"""Describe a data set.

facts.py          counts, media, split, sizes and popularity, as JSON or as a table
summary.py        what was packed, what failed and what was left out, in lines
page.py           one page with items and their frames, distributions, and failures
"""
