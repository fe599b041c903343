"""A synthetic MicroLens with real video files.

model.py          users, items and interactions, and the probabilities behind them
reference.py      test metrics of the oracle, of popularity and of chance
media.py          videos, covers and titles
make.py           the raw folder
"""
