"""How the commands show work and figures in a terminal. Knows how things look, not what they are."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from inspector.bundle import Bundle, describe

LINE_SECONDS = 10.0  # between two lines of one stage where there is no terminal to draw bars in


class Bars:
    """A bar for each stage of long work, told how far it is; in a log, a line now and then."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._told = 0.0

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """`done` of `total` steps of the stage; `note` is a short text such as the loss."""
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total, note="", rate="")
        task = self._progress.tasks[self._tasks[stage]]
        rate = f"{task.speed:.1f}/s" if task.speed else ""
        self._progress.update(task.id, completed=done, total=total, note=note, rate=rate)
        if not self._progress.console.is_terminal and (done == total or time.monotonic() - self._told > LINE_SECONDS):
            self._told = time.monotonic()
            self._progress.console.print(f"{stage}: {done} of {total} {rate} {note}".rstrip(), soft_wrap=True)


@contextmanager
def progress_bars() -> Iterator[Bars]:
    """Bars with rate and remaining time, on stderr."""
    columns = (
        TextColumn("{task.description:18}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield Bars(progress)


def show_figures(figures: dict[str, Any]) -> None:
    """An evaluation's figures in a terminal, the confusion in words."""
    auroc, confusion = figures["image_auroc"], figures["confusion"]
    table = Table(title=f"{figures['bundle']} on {figures['dataset']}", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    rows = {
        "image AUROC": auroc["pooled"],
        "  logical": auroc["logical"],
        "  structural": auroc["structural"],
        **{f"  {name}": value for name, value in auroc["by_type"].items()},
        **{
            f"image AUROC of {name.replace('_', ' ')} alone": value
            for name, value in figures["image_auroc_by_score"].items()
        },
        "pixel AUROC": figures["pixel_auroc"],
        "AU-PRO": figures["au_pro"],
        "AU-sPRO@0.05": figures["au_spro"]["0.05"],
    }
    for name, value in rows.items():
        if value is not None:
            table.add_row(name, f"{value:.3f}")
    console = Console(highlight=False)
    console.print(table)
    good, anomalous = confusion["fp"] + confusion["tn"], confusion["tp"] + confusion["fn"]
    console.print(
        f"at the threshold {figures['threshold']:.3f}: of {good} good parts {confusion['fp']} would be rejected, "
        f"of {anomalous} anomalous parts {confusion['fn']} would pass"
    )


def show_notes(words: Sequence[str]) -> None:
    """What the person at the terminal should know."""
    for word in words:
        Console(stderr=True, highlight=False).print(Text(f"note: {word}", style="yellow"), soft_wrap=True)


def show_bundle(bundle: Bundle) -> None:
    """What was made, and what its threshold and export are worth."""
    parity, threshold = bundle.manifest.parity, bundle.manifest.threshold
    console = Console(highlight=False)
    console.print(f"{bundle.folder}: {describe(bundle.manifest)}", soft_wrap=True, markup=False)
    console.print(
        f"the threshold {threshold.value:.3f} aims at {threshold.false_reject_target:.1%} false rejects "
        f"({threshold.method}); its {threshold.validation_images} images show at most "
        f"{threshold.shown_false_reject_rate:.1%}; export differs from training by at most "
        f"{parity.max_score_difference:.1g} in score and {parity.max_map_difference:.1g} in the map",
        soft_wrap=True,
    )
