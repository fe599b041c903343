"""Joint training of video encoders and recommenders on streamed shards.

    import mlrec

    model = mlrec.load("runs/quickstart_video")      # a run or an export
    data = mlrec.open(model.config.data.url)
    history = data.history(data.users[0])[-5:]       # raw ids, oldest first
    for item in model.recommend(history, k=5):
        print(item.raw_id, item.title, round(item.score, 3))
    scores = model.scores([history])                 # float32 [1, N]
    vectors = model.item_vectors()                   # float32 [N, D]
    print(mlrec.evaluate("runs/quickstart_video").metrics["all"]["hr@10"])

Dataset (help(mlrec.Dataset)), which open returns:
    items, users, title(item), frames(item), cover(item), popularity,
    history(user), histories(split), batches(batch_size)
Model (help(mlrec.Model)), which load returns:
    item_ids, item_vectors(), scores(histories), recommend(history, k),
    encode(media), config
Run, which train returns; mlrec.Run(folder) opens one:
    path, config, results, log
Config, the settings of a run; `mlrec list keys` describes all keys.

Items and users are named by their raw ids, which are strings. `settings` is
a dict of keys, such as {"train.duration": "2 epochs"}.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from mlrec.api import Batch as Batch
    from mlrec.api import Dataset as Dataset
    from mlrec.api import History as History
    from mlrec.api import Model as Model
    from mlrec.api import Recommendation as Recommendation
    from mlrec.api import Results as Results
    from mlrec.api import Run as Run
    from mlrec.api import evaluate as evaluate
    from mlrec.api import load as load
    from mlrec.api import open as open
    from mlrec.api import train as train
    from mlrec.config import Config as Config

__version__ = "0.1.0"

# The functions; pydoc shows these with their whole text, and the classes have a help of their own.
__all__ = ["evaluate", "load", "open", "train"]

_MODULE_OF = {
    "Batch": "mlrec.api",
    "Config": "mlrec.config",
    "Dataset": "mlrec.api",
    "History": "mlrec.api",
    "Model": "mlrec.api",
    "Recommendation": "mlrec.api",
    "Results": "mlrec.api",
    "Run": "mlrec.api",
    "evaluate": "mlrec.api",
    "load": "mlrec.api",
    "open": "mlrec.api",
    "train": "mlrec.api",
}
"""Public names, which are imported at their first use: torch takes seconds."""

# Python sets the name of a package in its parent when it first imports it. For mlrec/train that is
# done here, where it is undone, so that later imports leave the function `train` alone.
_import_module("mlrec.train")
globals().pop("train")


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'mlrec' has no attribute {name!r}")
    value = getattr(_import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    # without __all__, which help would print
    return sorted({*_MODULE_OF, "__doc__", "__file__", "__path__", "__version__"})
