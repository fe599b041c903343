"""The foundations of every process: ranks, start and end of commands, and output.

distributed.py    the process group: collectives, shares, work done by rank 0
rendezvous.py     let the ranks find each other
launcher.py       start a run on several machines; restart it after a failure
hosts.py          read hostfiles; find the machines that answer ssh
machines.py       start, signal and end a run on its machines
node.py           start and supervise the ranks of one machine
phases.py         phases and time limits of these supervisors
entry_point.py    run a command: errors become one sentence and an exit code
ending.py         end a process and its children, whatever they are doing
launcher_watch.py   stop a rank when torchrun or deepspeed is gone
stop_request.py   stop all ranks after the same step
time_limit.py     time limits on decoding
terminal.py, printable.py   print text of strangers safely
progress.py       progress bars and lines
json_output.py    the option --json
units.py          sizes and durations in words
redact.py, credentials.py   keep credentials out of everything that is written
urls.py           the supported storage schemes
versions.py       the commit of the code that runs
hardware.py       the processor and the free memory
devices.py        memory, peak rates and prices of GPUs
flops.py          count floating-point operations
"""
