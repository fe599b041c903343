"""Raw media: what containers hold, frames of videos, sound.

containers.py     read the header of a media file before a decoder does
policies.py       choose the frames that represent a video, from positions or content
frames.py         decode frames
audio.py          decode sound
"""
