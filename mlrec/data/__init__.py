"""Data: what is on storage, and the batches that ranks receive.

format/           the data set's files
features/         features computed before training
raw_ids.py        spellings of raw ids
media/            containers, frames, audio
sequences.py      users' histories, in memory shared by all processes of a node
open_sequences.py, sequence_cache.py   make them from the shards, once per node
plan.py           which users are in which step, which items are encoded on which rank
ownership.py      which rank owns an item
item_store.py     read items from shards, local or remote
samples.py        what the item store delivers of an item
byte_ranges.py    where items are in shards, and which of them one read covers
shard_readers.py  bytes of shards: from this node's disk, or by ranged reads
cache.py          remote shards on the node's disk
cache_room.py, sparse_shards.py   its budget and eviction; shards of which it has some ranges
cache_folder.py   where the cache may be
decode.py, decode_clock.py   items to tensors, with a time limit
decoders.py       the decoder of each modality
decode_on.py      where JPEGs are decoded, by data.decode_on
jpeg_slots.py     JPEGs on their way to the device that decodes them
stream.py         an opened data set, and the batches of a rank's steps
step_stream.py    these batches from loader processes
workers.py        start and end of the loader processes
catalogue_pass.py the whole catalogue, once, over all ranks
shard_streams.py  whole item shards, front to back
cached_items.py   which items the loader skips because their activations are cached
media_region.py   memory of decoded media, shared by loader workers and training
host_memory.py    how much host memory that takes, and whether it fits
schema.py         the types of a batch
spacing.py        evenly spaced samples
titles.py, pictures.py   titles; items as pictures for people
"""
