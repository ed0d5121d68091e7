"""The commands that judge what was learned. Bodies import lazily: `--help` needs no torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inspector.command import JsonFile, make_parent, plainly
from inspector.terminal import Bars, progress_bars, show_figures

if TYPE_CHECKING:
    from inspector.bundle import Bundle
    from models.data import Image as DataImage
    from models.evaluate import Predict
    from models.evaluation import Evaluation

app = typer.Typer()

LEARNING = "Learning"

Dataset = Annotated[Path, typer.Argument(help="folder in the MVTec or LOCO layout", exists=True, file_okay=False)]
BundleFolder = Annotated[Path, typer.Argument(help="folder of the trained model")]


@app.command(rich_help_panel=LEARNING, epilog="Example: inspector evaluate kit_tray.bundle images/kit_tray --report r")
@plainly
def evaluate(
    bundle: BundleFolder,
    dataset: Dataset,
    json: JsonFile = None,
    maps: Annotated[Path | None, typer.Option(help="write a float32 TIFF for every image there")] = None,
    report: Annotated[Path | None, typer.Option(help="write a page with histograms and pictures there")] = None,
) -> None:
    """Judge a bundle on DATASET/test with DATASET/ground_truth, by the engine that a station runs."""
    from inspector.bundle import load_bundle

    loaded = load_bundle(bundle)
    make_parent(json)
    with progress_bars() as progress:
        figures = judge(loaded, dataset, progress, maps=maps, report=report)
    show_figures(figures.model_dump())
    if json:
        json.write_text(figures.model_dump_json(indent=2) + "\n", encoding="utf-8")
    if report:
        typer.echo(f"report: {report / 'report.html'}")


@app.command(
    rich_help_panel=LEARNING, epilog="Example: inspector benchmark images/a images/b --json table.json --resume"
)
@plainly
def benchmark(
    datasets: Annotated[list[Path], typer.Argument(help="folders in the MVTec or LOCO layout", exists=True)],
    json: Annotated[Path, typer.Option("--json", help="write the table there, row by row")] = Path("benchmark.json"),
    methods: Annotated[str, typer.Option(help="comma-separated")] = (
        "thumbnail,patchcore,efficientad,dfsc-m0,dfsc,dfsc-m1,heads,dfsc+heads,inspector"
    ),
    seeds: Annotated[int, typer.Option(help="repetitions of methods that draw lots", min=1)] = 3,
    budget: Annotated[str, typer.Option(help="comma-separated, of demo, 5min, 20min, full")] = "5min",
    resume: Annotated[bool, typer.Option("--resume", help="keep the JSON file's rows and do those it lacks")] = False,
    curve: Annotated[Path | None, typer.Option(help="draw image AUROC against minutes there, a PNG")] = None,
) -> None:
    """Train and judge methods side by side; print a table of all, and one of every dataset's kinds of defects.

    With all methods and three seeds that is three to five hours of two cores for each dataset, seed by seed; what was
    killed goes on with [b]--resume[/b].

    Methods: thumbnail, patchcore, csda-KIND (CSDA alone, learned from cutpaste, perlin, structural, comgen, or
    comgen-any, which is without low-density sampling), efficientad, dfsc (as in its report, margin 0.4), dfsc-m0,
    dfsc-m0.2, dfsc-m1, dfsc-m2, inspector (what [b]inspector train[/b] does), inspector-m0, inspector-m0.4 and
    inspector-m1 (with that margin), dfsc+heads (without CSDA, never without DFSC), heads (what is left of that without
    DFSC's networks), heads+csda-KIND (all of those and CSDA: nothing is left out), inspector-pdn (with the PDN-S
    teacher); [b]ablation[/b] stands for the rows of the report's Table 4.
    """
    from models.benchmark import as_budgets
    from models.benchmark import benchmark as compare
    from models.method import ABLATION
    from models.tables import as_markdown, plot_curves, types_as_markdown

    asked = [name.strip() for name in methods.split(",")]
    names = [name for item in asked for name in (ABLATION if item == "ablation" else [item])]
    budgets = as_budgets(budget)
    make_parent(curve)
    with progress_bars() as progress:
        rows = compare(datasets, names, seeds=seeds, budgets=budgets, out=json, progress=progress, resume=resume)
    typer.echo(as_markdown(rows))
    typer.echo("Image AUROC by kind of defect:\n")
    typer.echo(types_as_markdown(rows))
    if curve:
        plot_curves(rows, curve)


def judge(
    bundle: "Bundle", dataset: Path, progress: Bars, *, maps: Path | None = None, report: Path | None = None
) -> "Evaluation":
    """A bundle's figures on a dataset's test images, at its own threshold."""
    from models.evaluate import evaluate as figures_of

    with predictor(bundle) as predict:
        return figures_of(
            predict,
            dataset,
            threshold=bundle.manifest.threshold.value,
            bundle=bundle.manifest.bundle_id,
            maps=maps,
            report=report,
            progress=lambda done, total: progress("judging", done, total),
        )


@contextmanager
def predictor(bundle: "Bundle") -> Iterator["Predict"]:
    """The station's engine as `models.evaluate` takes it; images of any size, as test images are not the camera's."""
    import time
    from dataclasses import replace

    from inspector.engine import open_engine
    from models.data import to_uint8
    from models.evaluate import Scored

    spec = bundle.manifest.input.model_copy(update={"height": None, "width": None})
    sizeless = replace(bundle, manifest=bundle.manifest.model_copy(update={"input": spec}))
    with open_engine("onnxruntime-cpu", sizeless) as engine:

        def predict(image: "DataImage") -> Scored:
            started = time.perf_counter()
            found = engine.infer(to_uint8(image, spec.bit_depth))
            latency_ms = (time.perf_counter() - started) * 1000
            return Scored(found.score, found.anomaly_map, found.parts, latency_ms)

        yield predict
