"""The Python API, which `import mlrec` offers by name. The commands share the code beneath it.

dataset.py    open, Dataset: items, frames, histories and batches
batches.py    Batch: users, histories and media of a step
media.py      inputs of items: videos, covers, features
model.py      load, Model: item vectors, scores, recommendations
runs.py       train, evaluate, Run: what training and ranking leave
settings.py   configurations, settings and other arguments from Python values
"""

from mlrec.api.batches import Batch
from mlrec.api.dataset import Dataset, History, open
from mlrec.api.model import Model, load
from mlrec.api.runs import Run, evaluate, train
from mlrec.evaluation.results import Results
from mlrec.serving.recommendation import Recommendation

__all__ = [
    "Batch",
    "Dataset",
    "History",
    "Model",
    "Recommendation",
    "Results",
    "Run",
    "evaluate",
    "load",
    "open",
    "train",
]
