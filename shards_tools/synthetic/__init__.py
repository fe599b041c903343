"""A made-up MicroLens with real video files.

make.py           users, items and interactions
media.py          videos, covers, sounds
"""
