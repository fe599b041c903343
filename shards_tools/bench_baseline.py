"""Decoding videos and nothing else, the limit of packing: in processes that import no more than the packer's."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from contextlib import suppress

from mlrec.data.media.frames import FRAME_POLICIES, decode_video
from mlrec.runtime.progress import Task
from shards_tools.pack.items import ItemJob
from shards_tools.pack.media import MediaError, read_file


def decode_bare(jobs: Sequence[ItemJob], workers: int, under_way: Task) -> None:
    """Decodes the frames of each job's video on as many processes."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for _ in pool.imap_unordered(_decode, jobs):
            under_way.advance()
        pool.close()
        pool.join()  # so that their seconds of CPU are counted


def _decode(job: ItemJob) -> None:
    media = job.media
    with suppress(
        MediaError, ValueError
    ):  # a video that cannot be decoded costs the packer the same
        content = read_file(job.video)
        decode_video(
            content,
            lambda length: FRAME_POLICIES[media.policy](length, media.frames, media.interval),
            media.size,
        )
