"""Raw media: what containers hold, frames of videos, sound.

containers.py     read the header of a media file before a decoder does
policies.py       choose the frames that represent a video, from positions or content
index.py          list the frames of a video by time, without decoding them
frames.py         decode chosen frames
scaling.py        turn frames upright and scale them
jpeg.py           decode packed frames and covers
device_jpeg.py    decode them on a GPU
audio.py          decode sound
"""
