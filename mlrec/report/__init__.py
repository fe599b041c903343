"""Reports: runs next to their baselines and the paper, as Markdown and as one page.

report.py         write a report
runs.py, users.py   read what runs reached, user by user
orientation.py    what each run is, and which is best
metric_tables.py, baselines.py, seeds.py   tables of metrics, means over seeds
significance.py   which runs lead by more than chance
tables.py, cost.py, speed.py   other tables, and what runs cost
paper.py, paper_table.py, paper_figures.py, published.py   the paper's tables and figures
wording.py        figures, durations and counts in words
examples.py       recommendations in frames
bar_figures.py, cost_figures.py, curves.py, smoothing.py   figures of runs
figures.py, svg.py, palette.py   what figures share, and how they are drawn
html.py, page.py, contents.py, markdown.py, escape.py   the page, and the text
dashboard.py      the team's W&B dashboard
"""
