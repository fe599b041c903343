"""A forecast in words, as `mlrec plan` and `mlrec train --dry-run` print it."""

from __future__ import annotations

from mlrec.models.formulas import StepSeconds
from mlrec.runtime.printable import counted
from mlrec.runtime.units import clock, megabytes_or_gigabytes
from mlrec.train.forecast import Forecast, Memory, StepWork
from mlrec.train.remedies import Remedy


def memory_lines(forecast: Forecast, remedies: list[Remedy]) -> list[str]:
    """Return the memory of a rank by its parts, whether it fits, and what to change if not."""
    memory = forecast.memory
    lines = [
        f"a rank   {_state_in_words(memory)}",
        f"         {_step_in_words(memory)}",
        f"         {_validation_in_words(forecast)}",
        f"         {verdict(memory)}",
    ]
    for remedy in remedies:
        hours = "" if remedy.hours is None else f" and {in_hours(3600 * remedy.hours)}"
        needed = megabytes_or_gigabytes(remedy.needed_bytes)
        lines.append(f"         with {' '.join(remedy.settings)} it takes {needed}{hours}")
    if not memory.fits and not remedies:
        lines.append(
            "         no setting makes it fit. Choose a smaller encoder or input, or more memory"
        )
    return lines


def _state_in_words(memory: Memory) -> str:
    state = memory.state
    place = " of host memory" if memory.offload_optimizer else ""
    parts = [
        f"parameters {megabytes_or_gigabytes(state.parameters)}",
        f"gradients {megabytes_or_gigabytes(state.gradients)}",
        f"gradient bucket {megabytes_or_gigabytes(state.bucket)}",
        f"optimizer {megabytes_or_gigabytes(state.optimizer)}{place}",
    ]
    if state.gathered:
        parts.insert(1, f"gathered parameters {megabytes_or_gigabytes(state.gathered)}")
    if state.averages:
        parts.append(f"averages {megabytes_or_gigabytes(state.averages)}{place}")
    return ", ".join(parts)


def _step_in_words(memory: Memory) -> str:
    step = memory.step
    backward = step.chunk + step.gradient_sums
    rows = f"rows of ids {megabytes_or_gigabytes(step.rows)}, " if step.rows else ""
    words = (
        f"{rows}activations {megabytes_or_gigabytes(step.held)} held; then the larger of "
        f"a chunk in its backward pass, {megabytes_or_gigabytes(backward)}, and the recommender, "
        f"{megabytes_or_gigabytes(step.recommender)}"
    )
    if memory.allowance:
        allowance = megabytes_or_gigabytes(memory.allowance)
        words += f"; {allowance} for context and fragmentation"
    return words


def _validation_in_words(forecast: Forecast) -> str:
    ranking = forecast.memory.ranking
    users = forecast.config.evaluate.user_chunk
    return (
        f"or a validation: item vectors {megabytes_or_gigabytes(ranking.vectors)}, scores "
        f"{megabytes_or_gigabytes(ranking.scores)} of at most {counted(users, 'user')} at a time, "
        f"comparisons {megabytes_or_gigabytes(ranking.comparisons)}"
    )


def verdict(memory: Memory) -> str:
    """Return whether the memory fits, with the sum."""
    needed = megabytes_or_gigabytes(memory.needed_bytes)
    room = megabytes_or_gigabytes(memory.device_bytes)
    fits = "fits" if memory.fits else "does not fit"
    return f"{fits} {memory.device}: it takes {needed} of {room}, in a {memory.largest_part}"


def on_ranks(ranks: int) -> str:
    """Return where the items of a rank are."""
    return "on one rank" if ranks == 1 else f"on one of {ranks:,} ranks"


def chunks_in_words(forecast: Forecast) -> str:
    """Return how items are encoded."""
    choice = forecast.choice
    words = f"{counted(choice.chunks, 'chunk')} of {counted(choice.chunk, 'item')}"
    if not forecast.cost.trains_tower:
        return f"{words}, without a backward pass"
    per_item = f"{megabytes_or_gigabytes(choice.item_bytes)} of activations per item"
    if not choice.recomputes:
        return f"{words}; {per_item}, all of them held"
    held = counted(choice.held_chunks, "chunk")
    if not choice.held_chunks:
        return f"{words}; {per_item}, all of them recomputed"
    return f"{words}; {per_item}, held in {held} and recomputed in the others"


def host_line(forecast: Forecast) -> str:
    """Return the host memory of a rank by its parts, and that of a node."""
    host = forecast.host
    words = f"host     {host.loader.in_words()}"
    if host.activation_cache:
        size = megabytes_or_gigabytes(host.activation_cache)
        words += f", activation cache up to {size}"
    if host.optimizer:
        words += f", optimizer {megabytes_or_gigabytes(host.optimizer)}"
    node = megabytes_or_gigabytes(host.node_bytes)
    return f"{words} per rank; {node} per node of {counted(host.ranks_per_node, 'rank')}"


def time_lines(forecast: Forecast) -> list[str]:
    """Return the time of a step and of the run, and its price; no line without rates."""
    time = forecast.time
    if time is None:
        return []
    parts = time.later_epochs
    if forecast.cached_share:
        share = f"{forecast.cached_share:.0%} of the items have cached activations"
        lines = [
            f"time     first epoch: {_step_in_time(time.first_epoch, forecast.first_epoch)}",
            f"         later epochs, in which {share}: "
            f"{_step_in_time(parts, forecast.later_epochs)}",
        ]
    else:
        lines = [f"time     {_step_in_time(parts, forecast.later_epochs)}"]
    if forecast.config.data.decode_on == "device":
        lines.append("         frames are decoded on the GPU, which this does not include")
    if parts.waits_for_loader or time.first_epoch.waits_for_loader:
        when = "" if parts.waits_for_loader else " in the first epoch"
        lines.append(
            f"         the loader is the limit{when}: {_of_workers(forecast)}. Raise "
            "data.num_workers"
        )
    rest = ", without the recommender's time" if parts.recommend is None else ""
    lines.append(
        f"         {clock(time.epoch_s)} an epoch, {clock(time.validation_s)} for each of "
        f"{counted(time.validations, 'validation')}, {in_hours(time.run_s)} in all{rest}"
    )
    if time.usd:
        price = forecast.machine.usd_per_hour
        usd = f"about ${time.usd:,.0f}" if time.usd >= 1 else "less than $1"
        lines.append(
            f"price    {in_hours(3600 * time.gpu_hours, 'GPU ')}, {usd} at ${price:.2f} per GPU "
            "and hour"
        )
    return lines


def _step_in_time(parts: StepSeconds, work: StepWork) -> str:
    """Return the time of a step by its parts, and its arithmetic."""
    if parts.recommend is None:
        least = "at least "
        recommender = "unknown"
    else:
        least = ""
        recommender = seconds(parts.recommend)
    words = (
        f"{least}{seconds(parts.step)} a step: encoding {seconds(parts.encode)}, recommender "
        f"{recommender}, exchange {seconds(parts.exchange)}, optimizer "
        f"{seconds(parts.optimizer)}; the loader takes {seconds(parts.load)}; "
    )
    if work.flops is None or work.kernels is None:
        return f"{words}{floating_point(work.tower_flops)} without the recommender's"
    return f"{words}{floating_point(work.flops)}, {work.kernels:,} kernels per rank"


def floating_point(flops: float) -> str:
    """Return a number of floating-point operations: "12.3 GFLOP", "2.70 PFLOP"."""
    for unit, size in (("PFLOP", 1e15), ("TFLOP", 1e12)):
        if flops >= 0.9995 * size:
            return f"{_three_digits(flops / size)} {unit}"
    return f"{_three_digits(flops / 1e9)} GFLOP"


def in_hours(duration_s: float, unit_of: str = "") -> str:
    """Return a duration: "1.5 hours", "32 minutes", "less than a minute".

    Args:
        unit_of: a word before the unit, with a space, such as "GPU ".
    """
    if duration_s >= 3600:
        return f"{duration_s / 3600:,.1f} {unit_of}hours"
    if duration_s < 60:
        return f"less than a {unit_of}minute"
    return counted(round(duration_s / 60), f"{unit_of}minute")


def _of_workers(forecast: Forecast) -> str:
    workers = forecast.config.data.num_workers
    return f"{counted(workers, 'worker')} per rank" if workers else "it works between the steps"


def seconds(duration_s: float) -> str:
    """Return a duration in ms below 1 s: "12 ms", "3.4 s"."""
    if duration_s >= 0.9995:
        return f"{duration_s:,.2f} s"
    return f"{_three_digits(1e3 * duration_s)} ms"


def _three_digits(value: float) -> str:
    """Return a value with three digits, or at most two decimal places: "913", "0.07"."""
    if value == 0 or value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
