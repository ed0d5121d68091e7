"""The commands that learn. Bodies import lazily: `--help` needs no torch."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from inspector.command import make_parent, plainly
from inspector.judging import LEARNING, Dataset, judge
from inspector.terminal import progress_bars, show_bundle, show_figures, show_notes

app = typer.Typer()


class Budget(StrEnum):
    """How long student and auto-encoder learn, on two CPU cores; all stages together take two to three times that."""

    DEMO = "demo"
    MINUTES_5 = "5min"
    MINUTES_20 = "20min"
    FULL = "full"


class Profile(StrEnum):
    """Inspector's own scores, or DFSC as its report has it."""

    FAST = "fast"
    FAITHFUL = "faithful"


class PdnSize(StrEnum):
    """EfficientAD's two patch description networks."""

    SMALL = "small"
    MEDIUM = "medium"


FalseReject = Annotated[
    float, typer.Option("--false-reject", help="share of good parts that may be rejected", min=0.0001, max=0.5)
]
Confidence = Annotated[float, typer.Option(help="that the share is not exceeded", min=0.5, max=0.999)]
Product = Annotated[str | None, typer.Option(help="the product's name; without it, the dataset folder's")]


@app.command(rich_help_panel=LEARNING, epilog="Example: inspector demo --folder /tmp/demo")
@plainly
def demo(
    folder: Annotated[Path, typer.Option(help="where images, bundle, report and station go")] = Path("demo"),
    parts: Annotated[int, typer.Option(help="parts on the simulated line", min=1)] = 40,
    fresh: Annotated[bool, typer.Option("--fresh", help="render and train again")] = False,
) -> None:
    """Show the main job on a rendered sample product: learn, judge, export, run a station. Minutes on two cores."""
    import shutil

    from export.package import package
    from inspector.bundle import load_bundle
    from inspector.demo import Line, run_line, write_station
    from inspector.sample import write_dataset
    from models.benchmark import thumbnail_auroc
    from models.train import forget_checkpoint
    from models.train import train as learn
    from models.trained import TrainSettings

    console = Console(highlight=False)
    dataset, out, report = folder / "kit_tray", folder / "kit_tray.bundle", folder / "report"
    if fresh:
        for path in (dataset, out, work_folder(out)):
            shutil.rmtree(path, ignore_errors=True)
    with progress_bars() as progress:
        if not dataset.exists():
            sizes = {"train": 120, "validation": 40, "test_good": 30, "per_fault": 2}
            write_dataset(dataset, **sizes, seed=1, progress=lambda done, total: progress("rendering", done, total))
        if not out.exists():
            settings = TrainSettings(budget="demo", false_reject_target=0.05)
            package(learn(dataset, settings, work=work_folder(out), progress=progress), out)
            forget_checkpoint(work_folder(out))
        bundle = load_bundle(out)
        figures = judge(bundle, dataset, progress, report=report)
        baseline = thumbnail_auroc(dataset)
    show_bundle(bundle)
    show_figures(figures.model_dump())
    console.print(f"(the nearest 32 x 32 thumbnail of a good image, as a baseline: image AUROC {baseline:.3f})")
    typer.echo(f"pictures and histograms: {report / 'report.html'}\n")
    line = Line(parts=parts)
    station = write_station(folder, bundle=out, line=line)
    typer.echo(f"a station on the simulated line: inspector run --station {station}")
    typer.echo(run_line(station, line, console))


@app.command(rich_help_panel=LEARNING, epilog="Example: inspector train images/kit_tray --out kit_tray.bundle")
@plainly
def train(
    dataset: Dataset,
    out: Annotated[Path, typer.Option("--out", help="the bundle to make")],
    budget: Annotated[
        Budget,
        typer.Option(help="of student and auto-encoder, on two CPU cores; everything takes two to three times that"),
    ] = Budget.MINUTES_20,
    seed: Annotated[int, typer.Option(help="the same seed and images give the same model, on a CPU", min=0)] = 0,
    profile: Annotated[
        Profile, typer.Option(help="faithful: DFSC's own maps and teacher (PDN-S); its 70,000 steps with --budget full")
    ] = Profile.FAST,
    recipe: Annotated[
        Path | None, typer.Option(help="TOML file whose [training] table switches elements of the method", exists=True)
    ] = None,
    product: Product = None,
    false_reject: FalseReject = 0.01,
    confidence: Confidence = 0.95,
    roi: Annotated[
        Path | None, typer.Option(help="image, white where to inspect and black elsewhere", exists=True)
    ] = None,
) -> None:
    """Learn a product from good images alone, set its threshold, and make a bundle that a station runs.

    Only DATASET/train/good and DATASET/validation/good are read; without the latter, some of the former are held out.
    Kill it when you like: the same command goes on where it was.
    """
    from export.package import package, refuse_foreign
    from models.data import read_image
    from models.method import REPORT, Method, load_method
    from models.train import caution, forget_checkpoint
    from models.train import train as learn
    from models.trained import TrainSettings

    if recipe and profile is Profile.FAITHFUL:
        raise typer.BadParameter("a --recipe says everything itself: leave --profile away")
    method = load_method(recipe) if recipe else REPORT if profile is Profile.FAITHFUL else Method()
    settings = TrainSettings(
        budget=budget.value, seed=seed, false_reject_target=false_reject, confidence=confidence, method=method
    )
    refuse_foreign(out)
    with progress_bars() as progress:
        trained = learn(
            dataset,
            settings,
            work=work_folder(out),
            progress=progress,
            product=product,
            region=read_image(roi) if roi else None,
        )
        progress("exporting", 0, 1)
        bundle = package(trained, out)
        progress("exporting", 1, 1)
    forget_checkpoint(work_folder(out))
    show_notes(trained.record.words + caution(trained.record.threshold))
    show_bundle(bundle)


@app.command(rich_help_panel=LEARNING, epilog="Example: inspector distill photographs --out teacher.safetensors")
@plainly
def distill(
    photographs: Annotated[Path, typer.Argument(help="folder of pictures of anything", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Option("--out", help="the teacher to make, a .safetensors file")],
    size: Annotated[PdnSize, typer.Option(help="PDN-S, or PDN-M, which is slower and better")] = PdnSize.SMALL,
    wide_resnet: Annotated[
        Path | None,
        typer.Option(
            help="torchvision's or timm's WideResNet-101-2 weights as a file; without it EfficientNet-Lite0",
            exists=True,
        ),
    ] = None,
    views: Annotated[
        int, typer.Option(help="pieces of the pictures that are looked at; 2 MB of memory each", min=20)
    ] = 1500,
    steps: Annotated[int, typer.Option(help="how long to learn; 20,000 are about an hour", min=1)] = 20_000,
    seed: Annotated[int, typer.Option(help="the same seed and pictures give the same teacher", min=0)] = 0,
) -> None:
    """Make a teacher that sees 33 pixels (PDN) from a large network, once; products are then learned with it.

    Name the file as teacher in a recipe's [training] table. Kill it when you like: the same command goes on.
    """
    from models.distill import DistillSettings, open_backbone
    from models.distill import distill as learn

    make_parent(out)
    backbone, name = open_backbone(wide_resnet)
    settings = DistillSettings(size=size.value, backbone=name, views=views, steps=steps, seed=seed)
    with progress_bars() as progress:
        made = learn(photographs, backbone, settings, out=out, progress=progress)
    typer.echo(
        f"{made.path}: on pictures that it has not learned, its features' mean squared error is "
        f"{made.held_out_error:.3f} of their variance"
    )


@app.command(rich_help_panel=LEARNING, epilog="Example: inspector export kit_tray.training --out kit_tray.bundle")
@plainly
def export(
    training: Annotated[Path, typer.Argument(help="the folder that train left beside its bundle", file_okay=False)],
    out: Annotated[Path, typer.Option("--out", help="the bundle to make")],
    false_reject: Annotated[
        float | None, typer.Option("--false-reject", help="another share of good parts that may be rejected")
    ] = None,
    confidence: Annotated[float | None, typer.Option(help="another confidence")] = None,
) -> None:
    """Make a bundle again from a finished training, say with another false-reject target.

    The graph is compared with the trained network on real images before the bundle is put in its place.
    """
    from export.package import package
    from models.train import TRAINED, caution, rechoose
    from models.trained import Trained

    trained = rechoose(Trained.load(training / TRAINED), target=false_reject, confidence=confidence)
    bundle = package(trained, out)
    show_notes(trained.record.words + caution(trained.record.threshold))
    show_bundle(bundle)


def work_folder(out: Path) -> Path:
    """Where a training keeps what it needs to go on: beside the bundle."""
    return out.with_name(f"{out.name.removesuffix('.bundle')}.training")
