# SPDX-License-Identifier: Apache-2.0
"""`beffroi bench`: a bounded load through the gateway, and what it was like for its clients.

In: a gateway, a model, bounds. Out: a table of times and rates, or one document; status 1 if a request failed.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from beffroi.cli import show
from beffroi.cli.bench.figures import QUANTILES, Figures, Plan, quantile
from beffroi.cli.target import choose, find, gateway_options, models
from beffroi.cli.web import Gateway

_PROMPT = "What did the bells of a free town's belfry ring for? Answer in a few sentences."
_ROWS = (("first token", "first"), ("between tokens", "gaps"), ("whole answer", "total"))


@click.command()
@gateway_options
@click.option("--model", help="The model to ask; the first that can chat when left out.")
@click.option(
    "--concurrency",
    "-c",
    type=click.IntRange(1, 1000),
    default=8,
    show_default=True,
    help="Clients, one request at a time each.",
)
@click.option(
    "--requests", "-n", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="Most requests in all."
)
@click.option(
    "--seconds",
    type=click.FloatRange(1, 3600),
    default=30.0,
    show_default=True,
    help="No new request after so many; open ones may end.",
)
@click.option(
    "--stream/--plain", "streamed", default=True, show_default=True, help="Ask for streams, or for whole answers."
)
@click.option(
    "--max-tokens", type=click.IntRange(1, 100_000), default=64, show_default=True, help="Most tokens of an answer."
)
@click.option(
    "--prompt",
    default=_PROMPT,
    help="The question; each request has its number before it.  [default: one about belfries]",
)
@show.output_options()
def bench(
    url: str | None,
    key: str | None,
    ca: Path | None,
    data: Path | None,
    model: str | None,
    out: show.Output,
    **bounds: Any,
) -> None:
    """Put a bounded load on the gateway, as clients feel it.

    The requests are real: they count against the key's limits, and cost what they cost. Ctrl-C ends the load early and
    shows what was measured until then. The client is one process, which a fast engine may keep busier than the gateway.
    """
    if bounds["concurrency"] > bounds["requests"]:
        raise click.UsageError(
            f"{bounds['concurrency']} clients cannot share {bounds['requests']} requests: lower -c or raise -n."
        )
    gateway = find(url, key, ca, data)
    plan = Plan(choose(model, models(gateway), gateway), **bounds)
    gateway.call("POST", "/chat/completions", Plan(**{**vars(plan), "streamed": False, "max_tokens": 1}).body(0))
    with _bar(plan.requests, quiet=out.kind != "people") as progress:
        figures = _run(gateway, plan, progress)
    _report(gateway, plan, figures, out)
    sys.exit(1 if figures.failed or not figures.answered else 0)


def _run(gateway: Gateway, plan: Plan, progress: Callable[[int], None]) -> Figures:
    # Imported here: an event loop takes longer to load than most commands to run.
    import asyncio  # noqa: PLC0415
    import signal  # noqa: PLC0415

    import uvloop  # noqa: PLC0415

    from beffroi.cli.bench.load import Load  # noqa: PLC0415

    load = Load(gateway, plan, progress)

    async def stoppable() -> Figures:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, load.stop)
        return await load.run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(stoppable())


@contextmanager
def _bar(requests: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, for whoever watches; it goes when the load is over."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("requests", total=requests)
        yield lambda done: bar.update(task, completed=done)


def _report(gateway: Gateway, plan: Plan, figures: Figures, out: show.Output) -> None:
    found = {name: sorted(getattr(figures, part)) for name, part in _ROWS}
    rows: list[list[show.Value]] = [
        [name, *(_span(quantile(values, part)) for _, part in QUANTILES)] for name, values in found.items() if values
    ]
    if out.kind == "people":
        _head(gateway, plan, figures)
    columns = [show.Column("MEASURE"), *(show.Column(name.upper(), f"{name}_us") for name, _ in QUANTILES)]
    if rows or out.kind != "people":
        out.table(columns, rows, document=document(gateway, plan, figures))
    if out.kind == "people":
        for fault, count in figures.faults.most_common():
            click.echo(show.paint(f"{count} failed: {show.safe(fault)}", show.BAD))


def _head(gateway: Gateway, plan: Plan, figures: Figures) -> None:
    kind = "streamed" if plan.streamed else "plain"
    click.echo(f"{show.paint(plan.model, show.STRONG)} at {gateway.url}, {kind}, {plan.concurrency} at once\n")
    done = f"{figures.answered:,} answered, {figures.failed:,} failed, in {show.duration(figures.elapsed)}"
    if figures.stopped or figures.cut:
        done += f"; {'stopped' if figures.stopped else 'time was up'}, {figures.cut:,} cut"
    rates = f"{_rate(figures.answered, figures)} requests/s"
    if figures.answered > figures.uncounted:
        rates += f", {_rate(figures.output, figures)} tokens/s made ({figures.input:,} in, {figures.output:,} out)"
    for name, text in (("requests", done), ("rate", rates)):
        click.echo(f"{show.paint(name.ljust(8), show.DIM)}  {text}")
    click.echo()


def document(gateway: Gateway, plan: Plan, figures: Figures) -> dict[str, Any]:
    """For programs: seconds, and counts."""
    told = figures.answered > figures.uncounted
    return {
        "url": gateway.url,
        "model": plan.model,
        "streamed": plan.streamed,
        "concurrency": plan.concurrency,
        "requests": {
            "answered": figures.answered,
            "failed": figures.failed,
            "cut": figures.cut,
            "stopped": figures.stopped,
        },
        "faults": dict(figures.faults),
        "seconds": round(figures.elapsed, 6),
        "requests_per_second": round(figures.answered / figures.elapsed, 3),
        "tokens": {"input": figures.input, "output": figures.output} if told else None,
        "tokens_per_second": round(figures.output / figures.elapsed, 3) if told else None,
        **{
            f"{name.replace(' ', '_')}_seconds": {
                label: None if (value := quantile(values, part)) is None else round(value, 6)
                for label, part in QUANTILES
            }
            for name, values in ((name, sorted(getattr(figures, part))) for name, part in _ROWS)
        },
    }


def _span(seconds: float | None) -> show.Cell:
    return show.span(None if seconds is None else round(seconds * 1_000_000))


def _rate(count: int, figures: Figures) -> str:
    rate = count / figures.elapsed
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"
