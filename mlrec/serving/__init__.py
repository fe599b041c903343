"""Serve a trained run: export weights, item vectors and an index, and recommend from them.

export.py        write the best weights as safetensors, with an index if asked for
index.py         write the vectors of all items and their HNSW index
model.py         ServedModel, which recommends without encoders and without a data set
exported.py      read an export, with all checks
exported_model.py   ServedModel with the titles of the data set
trained.py       TrainedModel, which recommends with a run's best checkpoint
media.py         media from Python as the encoders read them
index_file.py    check an index file before faiss reads it
recommend.py, recommendation.py   mlrec recommend, and one recommended item
"""

from mlrec.serving.model import ServedModel

__all__ = ["ServedModel"]
