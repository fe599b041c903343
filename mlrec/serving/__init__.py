"""Serve a trained run: export weights, item vectors and an index, and recommend from them.

export.py        write the best weights as safetensors, with an index if asked for
index.py         write the vectors of all items and their HNSW index
model.py         ServedModel, which recommends without encoders and without a data set
exported.py      read an export, with all checks
index_file.py    check an index file before faiss reads it
recommend.py     recommend with a run or an export, with titles
"""

from mlrec.serving.model import ServedModel

__all__ = ["ServedModel"]
