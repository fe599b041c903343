"""Passes over the full catalogue with a model: rank it, compare runs, extract features.

evaluate.py       rank every user's held-out item against the whole catalogue
run_evaluation.py rank the best checkpoint of a run, and keep the results
ranking.py        scores, and the rank of a target among them
metrics.py        HR, NDCG and MRR, with ties by expectation
results.py        what a ranking leaves in the run's folder
examples.py       recommendations to some users, for people to look at
compare.py        test the difference of two runs
trained_model.py  load the model of a checkpoint
history_length.py check a model against the histories of a data set
extract.py, extraction.py   frozen features of all items, restartable
stage_vectors.py, block_merge.py   features of all stages: what is encoded, and how it is joined
principal_components.py     PCA over the items of the training split
"""
