"""Which video encoders a number of frames per video is enough for."""

from __future__ import annotations

from collections import defaultdict

from mlrec.runtime.printable import counted


def frames_of_encoders() -> dict[int, list[str]]:
    """Return the names of the video encoders without "video/", by the frames that they read.

    Encoders that read as many frames as their checkpoint states are left out.
    """
    # imports torch, so that only a summary does it
    from mlrec.data.schema import Modality
    from mlrec.models.encoders import ENCODERS

    names_by_frames: dict[int, list[str]] = defaultdict(list)
    for name, row in ENCODERS.items():
        if row.modality is Modality.VIDEO and row.frames:
            names_by_frames[row.frames].append(name.removeprefix("video/"))
    return dict(sorted(names_by_frames.items()))


def describe_frames(frames: int) -> list[str]:
    """Return which encoders `frames` per video are enough for, and for which others they repeat."""
    enough = []
    too_few = []
    for needed, names in frames_of_encoders().items():
        group = f"{needed} ({', '.join(names)})"
        if needed <= frames:
            enough.append(group)
        else:
            too_few.append(group)
    served = f"enough for video encoders that read {', '.join(enough)}" if enough else "too few"
    lines = [f"{counted(frames, 'frame')} per video: {served}"]
    if too_few:
        lines.append(f"frames repeat for encoders that read {', '.join(too_few)}; see --frames")
    return lines
