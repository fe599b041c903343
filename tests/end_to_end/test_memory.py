"""Peak memory of encoding with gradient grows with item.chunk, not with the number of items; one process per measurement."""

import subprocess
import sys

PROGRAM = """
import resource, sys, torch
from mlrec.config import ItemConfig
from mlrec.models.tower import ItemTower

chunk, items = map(int, sys.argv[1:])
torch.set_num_threads(1)
shape = {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 384}
options = {"checkpoint": "", "frames": 8, "size": 112, "config": shape}
tower = ItemTower(ItemConfig(encoders=("video/videomae",), options={"video/videomae": options}, chunk=chunk), 64, 100)
media = {tower.specs[0]: torch.zeros(items, 8, 112, 112, 3, dtype=torch.uint8)}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tower.encode(media, most=items).sum().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def growth(chunk: int, items: int) -> int:
    """KiB of peak resident memory that encoding `items` in chunks adds."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(chunk), str(items)], capture_output=True, text=True, check=True, timeout=120
    )
    return int(done.stdout)


def test_memory_follows_the_chunk() -> None:
    few, many, whole = growth(chunk=4, items=8), growth(chunk=4, items=32), growth(chunk=32, items=32)
    assert many < 1.7 * few, "four times the items, the same chunk"
    assert whole > 2.5 * many, "the same items, eight times the chunk"
