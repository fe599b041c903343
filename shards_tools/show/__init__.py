"""Describe a data set.

facts.py          counts, media, split, sizes and popularity, as JSON or as a table
summary.py        what was packed, what failed and what was left out, in lines
accounts.py       what became of the raw data and of the packed interactions, as counts
measures.py       what users and items have: quantiles and histograms
page.py           one page with accounts, distributions, items and their frames, and failures
"""
