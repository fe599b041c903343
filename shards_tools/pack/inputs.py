"""Files that a data set is packed from, besides those of the raw folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Inputs:
    """Files and folders that are named on the command line. They may be URLs."""

    titles: str = ""
    """Table of titles; "" to look for one in the raw folder."""
    title_checkpoint: str = ""
    """Folder of the CLIP model of policy title; "" with other policies."""
    features: Mapping[str, str] = field(default_factory=dict)
    """File of each kind of features, by name."""


NO_INPUTS = Inputs()
"""Of a data set that is packed from its raw folder alone."""
