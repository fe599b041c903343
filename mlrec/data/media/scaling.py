"""Turn decoded frames upright and scale them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

if TYPE_CHECKING:
    import av

MATRIX = "DISPLAYMATRIX"
"""Side data of frames that a player turns."""
Filter = tuple[str, ...]
"""Name of one of FFmpeg's filters and its arguments."""


class _Form(NamedTuple):
    """Properties of a frame that a filter graph is built for."""

    width: int
    height: int
    format: str
    turns: tuple[Filter, ...]


class Scaler:
    """Filter that turns frames upright and scales them to a square.

    One filter graph serves all frames of the same size, pixel format and rotation.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._form: _Form | None = None
        self._graph: av.filter.Graph | None = None

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """Return the frame as uint8 [size, size, 3]."""
        form = _Form(frame.width, frame.height, frame.format.name, _turns(frame))
        if self._graph is None or form != self._form:
            self._form = form
            self._graph = self._build(frame, form.turns)
        self._graph.push(frame)
        return np.asarray(self._graph.pull().to_ndarray())

    def _build(self, frame: av.VideoFrame, turns: tuple[Filter, ...]) -> av.filter.Graph:
        import av

        graph = av.filter.Graph()
        nodes = [
            graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=frame.time_base,
            )
        ]
        nodes += [graph.add(*turn) for turn in turns]
        nodes.append(graph.add("scale", f"{self._size}:{self._size}:flags=bilinear"))
        nodes += [graph.add("format", "rgb24"), graph.add("buffersink")]
        graph.link_nodes(*nodes).configure()
        return graph


def is_turned(frame: av.VideoFrame) -> bool:
    """Return whether a player turns or mirrors the frame before it shows it."""
    return bool(_turns(frame))


def _turns(frame: av.VideoFrame) -> tuple[Filter, ...]:
    """Return the filters that turn a frame upright: a phone's video is often sideways."""
    try:
        matrix = frame.side_data.get(MATRIX)
    except ValueError:
        # PyAV refuses side data of kinds that it does not know, such as EXIF
        return ()
    if matrix is None:
        return ()
    # a matrix of 3 x 3, whose upper left 2 x 2 numbers say how the axes turn and flip
    xx, xy, _, yx, yy = np.frombuffer(cast("bytes", matrix), np.int32)[:5].tolist()
    if abs(xy) > abs(xx):
        return (("transpose", _TRANSPOSE[xy > 0, yx > 0]),)
    turns: list[Filter] = []
    if xx < 0:
        turns.append(("hflip",))
    if yy < 0:
        turns.append(("vflip",))
    return tuple(turns)


_TRANSPOSE = {(True, True): "0", (True, False): "1", (False, True): "2", (False, False): "3"}
"""Arguments of FFmpeg's transpose, by the signs of the matrix's xy and yx."""
