"""The configuration of a run: typed sections, loaded from YAML files and key=value.

configs.py          the sections and their keys, with defaults, bounds and meaning
loading.py          load a configuration from files and arguments, and save it
merging.py          merge files and overrides; options follow the row that they belong to
values.py, keys.py  check a value against the type of its key; describe keys
bounds.py           the range of each number
durations.py        "100 steps", "2 epochs", "5%"
yaml_files.py       YAML, with the place of every value
arguments.py        the parser that all commands share
encoder_options.py, zero_options.py   options of encoders and of DeepSpeed ZeRO
run_files.py        the names of the files in a run's folder
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
    load,
    load_arguments,
    load_saved,
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
    "load",
    "load_arguments",
    "load_saved",
    "save",
    "section_docs",
]
