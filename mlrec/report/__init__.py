"""Reports: runs beside their baselines and the paper, as Markdown and as one page.

report.py         write a report
runs.py           read what runs reached
tables.py, seeds.py, cost.py   tables of runs, means over seeds, and what runs cost
paper.py, published.py   the paper's tables and figures
wording.py        figures, durations and counts in words
examples.py       recommendations in frames
figures.py, curves.py, smoothing.py, svg.py, palette.py   figures
html.py, page.py, markdown.py, escape.py   the page, and the text
dashboard.py      the team's W&B dashboard
"""
