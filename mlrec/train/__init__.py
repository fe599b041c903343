"""Train a run: `mlrec train`, `deepspeed --module mlrec.train` or `torchrun -m mlrec.train`.

loop.py           the training loop
engine.py         build a model under DeepSpeed, and take one optimizer step
deepspeed_config.py   DeepSpeed's configuration
model_state.py    all weights and moments, as a checkpoint holds them
training_run.py   the state of a run beside the engine: what is due, divergence, saving
optim.py          optimizer and schedule
zero_state.py     weights and optimizer state under ZeRO
warm_start.py     start from the weights of another run
activation_memory.py   what backward keeps, and when to checkpoint activations
meter.py          figures of the steps since the last log
dry_run.py        what a run will do, read and hold in memory
sweep_file.py     the file of a sweep
sweep.py          several runs, one after the other
"""
