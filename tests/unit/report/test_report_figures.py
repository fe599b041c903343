"""Figures of a report: their values on hover, long curves, error bars, colors and marker shapes."""

from __future__ import annotations

import json
import math
import re
import warnings
from itertools import pairwise
from pathlib import Path

import pytest
from made_runs import make_run
from matplotlib.axes import Axes

from mlrec.report.bar_figures import Bar, bars, waiting
from mlrec.report.curves import MAX_DRAWN_POINTS, MAX_HOVERED_POINTS, curves
from mlrec.report.figures import colors
from mlrec.report.page import Drawing
from mlrec.report.palette import GREY, MARKERS, PALETTE, swatch
from mlrec.report.runs import Run, read_runs
from mlrec.report.smoothing import extremes, smoothed, spaced
from mlrec.report.svg import Mark, draw_svg

CARDS = ("#ffffff", "#1a1e25")
"""Backgrounds of figures in light and in dark, --card in style.css."""


def long_run(path: Path, num_lines: int, steps_per_line: int = 5) -> Run:
    """Return a run that logged a noisy loss and its epoch; an epoch has 1,000 steps."""
    make_run(path)
    lines = []
    for line in range(1, num_lines + 1):
        step = line * steps_per_line
        noise = 0.2 * (-1) ** line
        lines.append(
            {"step": step, "time": 1.0 * step, "train/loss": 3 + noise, "train/epoch": step / 1000}
        )
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return read_runs([path])[0]


def titles(drawing: Drawing) -> list[str]:
    """Return the texts that browsers show on hover."""
    return re.findall(r"<rect [^>]*><title>(.*?)</title></rect>", drawing.svg, re.DOTALL)


def luminance(color: str) -> float:
    """Return the relative luminance of WCAG 2."""
    linear = []
    for start in (1, 3, 5):
        channel = int(color[start : start + 2], 16) / 255
        linear.append(channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4)
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("color", [*PALETTE, GREY])
def test_palette_color_has_contrast_to_the_card(color: str, card: str) -> None:
    darker, lighter = sorted((luminance(color), luminance(card)))
    assert (lighter + 0.05) / (darker + 0.05) >= 3


def test_palette_colors_have_a_marker_shape_each() -> None:
    assert len({MARKERS[color] for color in PALETTE}) == len(PALETTE)
    assert len({re.sub(r"fill=.*", "", swatch(color)) for color in PALETTE}) == len(PALETTE)


def test_draw_svg_marks_show_escaped_names_values_and_errors() -> None:
    marks = [
        Mark("<run>", "cold", 0.0, 0.25, error=0.0125),
        Mark("<run>", "1-5", 1.0, 0.5),
        Mark("<run>", "6-20", 2.0, 0.5, words='50 % & "more"'),
    ]

    def draw(axes: Axes) -> None:
        axes.plot([0, 1, 2], [0.25, 0.5, 0.5])
        axes.set_xlabel("interactions")
        axes.set_ylabel("HR@10 (share of users)")

    drawing = draw_svg(draw, "A <label>", marks=marks)
    assert titles(drawing) == [
        "&lt;run&gt;\ncold: .2500 ± .0125",
        "&lt;run&gt;\n1-5: .5000",
        "&lt;run&gt;\n6-20: 50 % &amp; &#34;more&#34;",
    ]
    assert (
        'role="img" aria-label="A &lt;label&gt;. Horizontal axis: interactions. '
        'Vertical axis: HR@10 (share of users)."' in drawing.svg
    )
    assert drawing.values is not None
    assert drawing.values.rows[0].cells == ("cold", ".2500 ± .0125")


def test_draw_svg_marks_lie_on_what_is_drawn() -> None:
    marks = [Mark("", str(x), x, y) for x, y in ((1.0, 10.0), (100.0, 1000.0), (10.0, 100.0))]

    def draw(axes: Axes) -> None:
        axes.plot([1, 100], [10, 1000])
        axes.set_xscale("log")
        axes.set_yscale("log")

    svg = draw_svg(draw, "log", marks=marks).svg
    lines = re.findall(r'<path d="M ([\d.]+) ([\d.]+) \nL ([\d.]+) ([\d.]+) \n" clip-path', svg)
    left, bottom, right, top = map(float, lines[-1])
    middles = []
    for x, y, side in re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"', svg)[-3:]:
        middles.append((float(x) + float(side) / 2, float(y) + float(side) / 2))
    assert middles[0] == pytest.approx((left, bottom), abs=0.2)
    assert middles[1] == pytest.approx((right, top), abs=0.2)
    assert middles[2] == pytest.approx(((left + right) / 2, (top + bottom) / 2), abs=0.2)


def test_draw_svg_ids_differ_between_figures_and_are_all_used(tmp_path: Path) -> None:
    runs = read_runs([make_run(tmp_path / "one"), make_run(tmp_path / "two", 2.0)])
    figures = [
        curves(runs, "train/loss", "same label", "loss (nats)"),
        curves(runs, "validation/hr@10", "same label", "HR@10"),
    ]
    ids = []
    for figure in figures:
        assert figure is not None
        own_ids = re.findall(r' id="(.*?)"', figure.svg)
        assert all(f"#{own_id}" in figure.svg for own_id in own_ids)
        ids += own_ids
    assert len(ids) == len(set(ids))


def test_bars_show_the_errors_of_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = read_runs([make_run(tmp_path / "video"), make_run(tmp_path / "id", 2.0)])
    without = bars(runs, "hr@10", "HR@10", colors(runs))
    assert without is not None and "Error bars" not in without.note
    monkeypatch.setattr(Run, "error", lambda run, metric, group="all": 0.0125)
    drawing = bars(runs, "hr@10", "HR@10", colors(runs))
    assert drawing is not None and "video\ncold: .3000 ± .0125" in titles(drawing)
    assert "Error bars: ± one standard error over the users." in drawing.note
    assert "in the order of the legend" in drawing.note
    # without hover, the error bars are in the figure
    assert drawing.svg.count("<path") > without.svg.count("<path")
    assert drawing.legend == colors(runs) and Bar(0.3).error is None


def test_curves_short_are_drawn_as_logged(tmp_path: Path) -> None:
    drawing = curves([long_run(tmp_path / "run", 20)], "train/loss", "Training loss", "loss (nats)")
    assert drawing is not None and drawing.note == "" and drawing.over_log_steps is None
    assert titles(drawing)[3] == "run\nstep 20 (epoch 0.02): 3.2000"
    assert "loss (nats)" in drawing.svg and ">step<" in drawing.svg and ">epoch<" in drawing.svg


def test_curves_long_are_smoothed_thinned_and_drawn_over_log_steps(tmp_path: Path) -> None:
    run = long_run(tmp_path / "run", 4000)
    drawing = curves([run], "train/loss", "Training loss", "loss (nats)")
    assert drawing is not None and drawing.over_log_steps is not None
    assert drawing.note == (
        "Smoothed by an exponential moving average of weight 0.988, which is less in the first "
        "800 log lines. Faint: as logged. Drawn with at most 500 of 4,000 points per run."
    )
    assert "step (log scale)" in drawing.over_log_steps.svg
    for svg in (drawing.svg, drawing.over_log_steps.svg):
        lines = [path.count("L ") for path in re.findall(r'<path d="([^"]*)"', svg)]
        assert MAX_DRAWN_POINTS / 4 < max(lines) <= MAX_DRAWN_POINTS
        assert len(svg) < 100_000
    shown = titles(drawing)
    assert len(shown) == MAX_HOVERED_POINTS
    assert re.fullmatch(
        r"run\nstep 20,000 \(epoch 20\): 3\.00\d+ smoothed, 3\.2000 logged", shown[-1]
    )
    assert drawing.values is not None and len(drawing.values.rows) == 12


def test_curves_values_over_two_decades_have_a_log_axis(tmp_path: Path) -> None:
    run = long_run(tmp_path / "run", 20)
    for line in run.metrics:
        line["train/loss"] = 500.0 * math.exp(-line["step"] / 15)
    drawing = curves([run], "train/loss", "Training loss", "loss (nats)")
    assert drawing is not None and "loss (nats) (log scale)" in drawing.svg
    run.metrics[-1]["train/loss"] = 0.0
    drawing = curves([run], "train/loss", "Training loss", "loss (nats)")
    assert drawing is not None and "log scale" not in drawing.svg


def test_curves_next_to_a_run_without_training_have_an_epoch_axis(tmp_path: Path) -> None:
    runs = [long_run(tmp_path / "trained", 20)]
    for line in runs[0].metrics:
        line["validation/hr@10"] = 0.1
    counted = make_run(tmp_path / "counted")
    (counted / "metrics.jsonl").write_text('{"step": 0, "time": 1.0, "validation/hr@10": 0.05}\n')
    runs += read_runs([counted])
    drawing = curves(runs, "validation/hr@10", "Validation", "HR@10")
    assert drawing is not None and ">epoch<" in drawing.svg


def test_curves_runs_with_other_epochs_share_no_epoch_axis(tmp_path: Path) -> None:
    runs = [long_run(tmp_path / "one", 20), long_run(tmp_path / "two", 20)]
    for line in runs[1].metrics:
        line["train/epoch"] *= 2
    drawing = curves(runs, "train/loss", "Training loss", "loss (nats)")
    assert drawing is not None and ">epoch<" not in drawing.svg
    assert "two\nstep 20 (epoch 0.04): 3.2000" in titles(drawing)


def test_smoothed_follows_the_start_and_averages_the_noise() -> None:
    falling = [10.0 / place for place in range(1, 1001)]
    averages = smoothed(falling, 0.99)
    assert averages[0] == falling[0]
    # a constant weight would still be at 2 or more here
    assert averages[20] == pytest.approx(falling[20], rel=0.25)
    noisy = [1.0, 3.0] * 500
    assert smoothed(noisy, 0.99)[-1] == pytest.approx(2.0, abs=0.02)
    assert smoothed(noisy, 0.0) == noisy


def test_extremes_keep_spikes_and_both_ends() -> None:
    values = [0.0] * 10_000
    values[1234] = 5.0
    values[8765] = -5.0
    for is_log in (False, True):
        places = extremes(values, 100, is_log)
        assert len(places) <= 100 and places == sorted(set(places))
        assert {0, 1234, 8765, 9999} <= set(places)
    assert extremes(values[:100], 100) == list(range(100))


def test_spaced_on_a_log_axis_has_equal_ratios() -> None:
    assert spaced(5, 100) == [0, 1, 2, 3, 4]
    assert spaced(1, 12) == [0] and spaced(1, 12, is_log=True) == [0]
    places = spaced(100_000, 6, is_log=True)
    assert places == [0, 9, 99, 999, 9999, 99_999]
    distances = [end - start for start, end in pairwise(spaced(1001, 11))]
    assert distances == [100] * 10


def test_colors_of_many_runs_on_two_data_sets_are_shared_between_them(tmp_path: Path) -> None:
    paths = []
    for number in range(12):
        fingerprint = ("a" if number < 9 else "b") * 64
        paths.append(make_run(tmp_path / f"run_{number:02}", 4 - number / 10, "x", fingerprint))
    runs = read_runs(paths)
    names = [f"run_{number:02}" for number in (0, 1, 2, 3, 9, 10, 11)]
    assert list(colors(runs)) == names
    # the figures of one data set take the colors of the page
    drawing = bars(runs[9:], "hr@10", "HR@10", colors(runs))
    assert drawing is not None
    assert drawing.legend == {name: colors(runs)[name] for name in names[4:]}


@pytest.mark.parametrize("name", ["长" * 60, "🎬" * 60, "a" * 120, "a run of many words " * 6])
def test_waiting_long_names_warn_of_nothing_and_keep_their_room(name: str, tmp_path: Path) -> None:
    paths = [make_run(tmp_path / f"{name[:35]}_{number}") for number in range(2)]
    for path in paths:
        with (path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": 110, "time": 1.0, "speed/data_wait": 0.25}) + "\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawing = waiting(read_runs(paths), "Waiting")
    assert drawing is not None
    assert "…" in drawing.svg and f"{name[:3]}" in drawing.svg
    for number in range(2):
        assert f"_{number}</text>" in drawing.svg
