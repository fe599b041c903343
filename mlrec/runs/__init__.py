"""A run's folder: what is written into it, and what a later command reads.

run.py            open a run: configuration, best checkpoint, state to resume from
checkpoint.py     write checkpoints, and load their weights into a model
checkpoint_reader.py  verify and read the files of a checkpoint
checkpoint_state.py   what a checkpoint knows beside weights
compatibility.py  which settings may differ between a checkpoint and a command
record.py         hardware, commit, versions and hours
tracker.py        metrics: console, metrics.jsonl, W&B and TensorBoard
metrics_file.py   metrics.jsonl
service.py        what W&B and TensorBoard have in common; their errors end no training
wandb_run.py      the run in W&B
tensorboard_run.py   the run in TensorBoard
wandb_tables.py   tables and pictures that W&B shows of a finished run
recommendations.py   recommended.json
example_pictures.py  pictures and titles of recommendations
failures.py       items that could not be read
lock.py           one process writes a run at a time
"""
