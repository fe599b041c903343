"""What every process of mlrec stands on: its ranks, how it starts and ends, and what it prints.

distributed.py    the process group: collectives, shares, work done by rank 0
rendezvous.py     ranks find each other
launcher.py       start a run on several machines; restart it after a failure
hosts.py          read hostfiles; find the machines that answer ssh
machines.py       start, signal and end a run on its machines
node.py           start and supervise the ranks of one machine
phases.py         phases and time limits of these supervisors
entry_point.py    run a command: errors become one sentence, exit codes say what happened
ending.py         end a process and its children, whatever they are doing
stop_request.py   stop all ranks after the same step
time_limit.py     time limits on calls
terminal.py, printable.py   print text of strangers harmlessly
progress.py       progress bars and lines
json_output.py    --json
redact.py, credentials.py   keep credentials out of what is written
urls.py           the URL schemes that mlrec supports
flops.py          count floating-point operations
"""
