"""Pack items and sequences into tar shards.

settings.py, plan.py   settings that change the packed bytes; the items and users of a data set
inputs.py              files besides those of the raw folder
interactions.py, split.py   the interactions of a plan; which split it has
items.py, media.py     the sample of one item: frames or clip, cover, title, audio
features.py            vectors that are packed with the items
item_media.py          the raw files that each item is packed from
image_frames.py        frames that are images already
frames.py, clip.py     the frames of a video that a policy chooses; CLIP, for policy title
raw_files.py           read raw media files
encoder_frames.py      the frames that each video encoder reads
records.py, reasons.py complete shards and failures, as JSON; failures by reason
shards.py              all item shards of a data set, from their records
sequences.py, catalogue.py   blocks of users; the catalogue
tar.py, output.py      tar shards with reproducible bytes; complete or absent files
pool.py, engines.py, ray_engine.py   processes of this machine, or of a Ray cluster
"""
