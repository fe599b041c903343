"""Train a run: `mlrec train`, `deepspeed --module mlrec.train` or `torchrun -m mlrec.train`.

loop.py           the training loop
engine.py         build a model under DeepSpeed, and take one optimizer step
deepspeed_config.py   DeepSpeed's configuration
model_state.py    all weights and moments, as a checkpoint holds them
training_run.py   a run's folder and bookkeeping: what is due, divergence, saving
validations.py    the best validation so far, and when to stop early
optim.py          optimizer and schedule
adamw.py          AdamW without the imports of torch.compile
zero_state.py     weights and optimizer state under ZeRO
warm_start.py     start from the weights of another run
meter.py          figures of the steps since the last log
run_plan.py       mlrec plan: what a run takes on GPUs that are not here
dry_run.py        the same for this machine and the data set's own steps
forecast.py, forecaster.py, forecast_words.py   memory, time and price of a run
model_cost.py     parameters and passes of a model without its weights
workload.py, machine.py   what a run encodes and reads, and the devices it runs on
remedies.py       what to change if a run does not fit
sweep_file.py, search_file.py   the file of a sweep, and its section search
sweep.py          several runs, one after the other
search.py, search_space.py   trials of settings, one after the other, and what to try next
run_process.py    a run in a process of its own
"""
