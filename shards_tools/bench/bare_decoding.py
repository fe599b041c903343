"""Decode videos and nothing else, which is the limit of packing.

The processes import this module, which imports no more than the packer's processes do.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from contextlib import suppress

from mlrec.runtime.progress import Task
from shards_tools.pack.frames import decode_chosen
from shards_tools.pack.image_frames import ImageSource, choose_images
from shards_tools.pack.items import ItemJob, frame_request
from shards_tools.pack.raw_files import MediaError, read_file


def decode_bare(jobs: Sequence[ItemJob], workers: int, progress: Task) -> None:
    """Decode the frames of each job's video in `workers` processes."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for _ in pool.imap_unordered(_decode, jobs):
            progress.advance()
        pool.close()
        # Only the CPU seconds of processes that have ended and were waited for are counted.
        pool.join()


def _decode(job: ItemJob) -> None:
    # a video that cannot be decoded costs the packer the same
    with suppress(MediaError, ValueError):
        if job.frames:
            choose_images(ImageSource(job.frames, read_file), job.media, frame_request(job))
        else:
            decode_chosen(read_file(job.video), job.media, frame_request(job))
