"""The configuration of a run: typed sections, loaded from YAML files and key=value.

configs.py          sections and keys, with defaults, bounds and meaning
checks.py           checks of a whole configuration
loading.py          load a configuration from files and arguments, and save it
sources.py          read files with their base files, and key=value
merging.py          merge these sources; options belong to the row they were set for
keys.py             all keys with their types; the key that a misspelt one stands for
key_docs.py         type, default and docstring of every key, for mlrec list keys
kinds.py            the types of keys, and their names in messages
values.py           read a text as a value of its key's type
scalars.py          text as it was written, and the strict grammar of numbers
metric_names.py     names of the metrics of full ranking
item_units.py       the noun for what encoders read: video, title, item
bounds.py           bounds of numbers
paths.py            keys that are paths, and their absolute form
durations.py        "100 steps", "2 epochs", "5%"
yaml_files.py       read YAML strictly
arguments.py        the parser of all commands
encoder_options.py, zero_options.py   options of encoders and of DeepSpeed ZeRO
run_files.py        names of the files in a run's folder
"""

from mlrec.config.configs import (
    Config,
    DataConfig,
    EvaluateConfig,
    ItemConfig,
    LossConfig,
    OptimConfig,
    RecommenderConfig,
    ResumeConfig,
    TrackingConfig,
    TrainConfig,
    ZeroConfig,
)
from mlrec.config.loading import (
    as_value,
    check_is_place,
    keys,
    kind_of,
    load,
    load_arguments,
    load_saved,
    override,
    save,
    section_docs,
)
from mlrec.config.sources import is_setting

__all__ = [
    "Config",
    "DataConfig",
    "EvaluateConfig",
    "ItemConfig",
    "LossConfig",
    "OptimConfig",
    "RecommenderConfig",
    "ResumeConfig",
    "TrackingConfig",
    "TrainConfig",
    "ZeroConfig",
    "as_value",
    "check_is_place",
    "is_setting",
    "keys",
    "kind_of",
    "load",
    "load_arguments",
    "load_saved",
    "override",
    "save",
    "section_docs",
]
