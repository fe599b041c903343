"""Raw media: what containers hold, frames of videos, sound.

containers.py     read the header of a media file before a decoder does
frames.py         decode frames
audio.py          decode sound
"""
