"""Benchmarks of `mlrec bench`: where the time goes on this machine, next to measured limits.

Each benchmark has a function `run(options)`, which returns a Result on rank 0 and None on others:

loader        input path from the plan to batches in the training process
step          training step on made-up media, and its baselines
prefix        training step with cached prefixes, and through all stages
evaluation    full ranking on random weights
scale         items, bytes and predicted time of a step on 1 to 4,096 ranks

They share:

ranks         frame of the benchmarks that take a configuration
made_up       media in memory, and sequences where there is no data set
measure       clocks, memory and names of devices
step_clock    clock of a training step and its parts
padded        the padded baseline: every slot of the global batch is encoded
plain         the plain baseline: ids with SASRec in a PyTorch loop without mlrec
worker_parts  parts of a loader worker's step
bare_decode   decoding on some number of processes, the limit of the loader
scale_figure  figure of `mlrec bench scale`
result        figures and tables of a benchmark

`mlrec.cli.bench` has the command lines.
"""
