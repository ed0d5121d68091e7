"""The commands of ComGEN: what a product is made of, and what it looks like when wrongly assembled. Lazy imports."""

from pathlib import Path
from typing import Annotated

import typer

from inspector.command import plainly
from inspector.judging import LEARNING, Dataset
from inspector.terminal import progress_bars

app = typer.Typer()


@app.command(rich_help_panel=LEARNING, epilog="Example: inspector components images/kit_tray --out kit_components")
@plainly
def components(
    dataset: Dataset,
    out: Annotated[Path, typer.Option("--out", help="folder for the contact sheet and the vocabulary")],
    images: Annotated[int, typer.Option(help="how many images the sheet shows", min=1, max=48)] = 12,
    seed: Annotated[int, typer.Option(help="the same seed and images give the same components", min=0)] = 0,
) -> None:
    """Find what a product is made of, without labels, and show it: components.png and vocabulary.toml.

    Look at the picture, then write the names that you use into vocabulary.toml; they are kept when you run this again.
    """
    from models.comgen.components import Components, find_all
    from models.comgen.population import Population
    from models.comgen.quality import component_iou
    from models.comgen.sheet import draw_components
    from models.comgen.truth import component_files, true_components
    from models.comgen.vocabulary import explain, read_vocabulary, suggest
    from models.normals import load_normals

    names, sheet = out / "vocabulary.toml", out / "components.png"
    with progress_bars() as progress:
        normals = load_normals(dataset, seed=seed, progress=progress)
        found = Components(normals.train, seed=seed, progress=progress)
        count = len(found.components)
        if names.exists():
            vocabulary = read_vocabulary(names, normals.fingerprint, count)
        else:
            vocabulary = suggest(normals.fingerprint, found.components)
        seen = find_all(found, normals.validation, "looking for them", progress)
        population = Population(seen)
        shown = [
            (image, [*instances, *population.things_of(instances)])
            for image, instances in zip(normals.validation[:images], seen, strict=False)
        ]
        out.mkdir(parents=True, exist_ok=True)
        draw_components(shown, found.components, vocabulary.names, sheet)
        if not names.exists():
            vocabulary.write(names, found.components)
    for number, (name, component) in enumerate(zip(vocabulary.names, found.components, strict=True)):
        typer.echo(f"{number:3} {name}: {explain(component)}")
    if not found.components:
        typer.echo("no part of the images recurs: the product has no components to edit; surfaces are still inspected")
    typer.echo(f"picture: {sheet}\nnames to edit: {names}")
    truth = component_files(dataset, normals.paths.validation[:images])
    if truth:
        overlaps = component_iou([instances for _, instances in shown], [true_components(path) for path in truth])
        typer.echo(f"true components are known here: mean IoU {sum(overlaps.values()) / len(overlaps):.3f} over them")
        typer.echo(", ".join(f"{number}: {value:.2f}" for number, value in overlaps.items()))


@app.command(rich_help_panel=LEARNING, epilog="Example: inspector generate images/kit_tray --out kit_anomalies")
@plainly
def generate(
    dataset: Dataset,
    out: Annotated[Path, typer.Option("--out", help="folder for the images, in the LOCO layout")],
    count: Annotated[int, typer.Option(help="how many images", min=1)] = 60,
    vocabulary: Annotated[
        Path | None, typer.Option(help="vocabulary.toml of inspector components, with your names", exists=True)
    ] = None,
    seed: Annotated[int, typer.Option(help="the same seed and images give the same anomalies", min=0)] = 0,
    rare: Annotated[bool, typer.Option("--rare/--any", help="prefer places where parts are seldom seen")] = True,
) -> None:
    """Make anomalies from good images: parts missing, doubled, moved, swapped, of the wrong kind; with exact masks.

    Writes images, a mask for each defect, labels.csv (what was done to which image) and sheet.png to look at.
    """
    from models.comgen.components import Components
    from models.comgen.dataset import write_anomalies
    from models.comgen.examples import photo_as_network_image
    from models.comgen.generate import Generator
    from models.comgen.quality import edit_quality, rarity
    from models.comgen.sheet import draw_anomalies
    from models.comgen.truth import component_files, true_components
    from models.comgen.vocabulary import read_vocabulary, suggest
    from models.normals import load_normals

    with progress_bars() as progress:
        normals = load_normals(dataset, seed=seed, progress=progress)
        found = Components(normals.train, seed=seed, progress=progress)
        words = (
            read_vocabulary(vocabulary, normals.fingerprint, len(found.components))
            if vocabulary
            else suggest(normals.fingerprint, found.components)
        )
        generator = Generator(normals.paths.train, normals.train, normals.format, found, words.names, progress)
        made = write_anomalies(
            generator.generate(count, seed=seed, rare=rare, progress=progress), normals.paths.train, out
        )
        again = []
        for done, anomaly in enumerate(made, start=1):
            seen = found.find(photo_as_network_image(anomaly.photo, normals.format), anywhere=True)
            again.append([*seen, *generator.population.things_of(seen)])
            progress("looking at them", done, len(made))
    if not made:
        typer.echo("the product has no components that could be edited: nothing was generated")
        return
    originals = [generator.photo(anomaly.source) for anomaly in made]
    draw_anomalies(made[:24], originals[:24], out / "sheet.png")
    files = component_files(dataset, normals.paths.train)
    involved = {image for anomaly in made for image in (anomaly.source, anomaly.reference) if image is not None}
    truths = {image: true_components(files[image]) for image in involved} if files else None
    quality = edit_quality(made, originals, again, truths)
    for change in sorted({anomaly.change for anomaly in made}):
        times = sum(anomaly.change == change for anomaly in made)
        typer.echo(f"{times:4} {change}: found again in {quality.by_change[change]:.0%}")
    typer.echo(
        f"the intended component has changed in {quality.intended:.0%}; a pixel changes by {quality.inside:.1f} of 255 "
        f"within the masks and by {quality.outside:.2f} without"
    )
    if places := rarity([anomaly.modification for anomaly in made], generator.population):
        typer.echo(
            f"moved and doubled parts lie where they are seldom seen in {places.seldom:.0%}; it is "
            f"{places.distance:.0%} of the image's side (median) to where good images show them"
        )
    if true := quality.true_masks:
        typer.echo(
            f"true components are known here: mean IoU of the masks with the true change {true.iou:.3f}, "
            f"{true.within:.0%} of them within it, in {true.images} images that change a true part"
        )
        typer.echo(", ".join(f"{change}: {value:.2f}" for change, value in true.by_change.items()))
    typer.echo(f"{len(made)} images: {out}\nto look at: {out / 'sheet.png'}")


@app.command(rich_help_panel=LEARNING, epilog="Example: inspector tokens images/kit_tray --out kit_tokens")
@plainly
def tokens(
    dataset: Dataset,
    out: Annotated[Path, typer.Option("--out", help="folder for the network and the picture of what it has learned")],
    steps: Annotated[int, typer.Option(help="how long to learn; 1,500 take two cores 24 minutes", min=1)] = 1500,
    questions: Annotated[int, typer.Option(help="changes that it is asked to draw", min=2)] = 24,
    seed: Annotated[int, typer.Option(help="the same seed and images give the same network", min=0)] = 0,
) -> None:
    """Learn a token for each component with a small denoiser that starts from nothing, and show what it has understood.

    tokens.png shows where it looks, and its drawing of a part that is missing or moved beside one of real pixels.
    inspector generate does without it. Kill it when you like: the same command goes on learning where it was.
    """
    from models.comgen.attended import draw, understanding
    from models.comgen.components import Components
    from models.comgen.learning import DenoiserSettings, train_denoiser
    from models.comgen.lessons import prepare
    from models.comgen.sheet import draw_tokens
    from models.normals import load_normals

    with progress_bars() as progress:
        normals = load_normals(dataset, seed=seed, progress=progress)
        found = Components(normals.train, seed=seed, progress=progress)
        lessons = prepare(normals, found, questions=questions, seed=seed, progress=progress)
        if not lessons.questions:
            typer.echo("the product has no components that could be edited: there is no token to learn")
            return
        out.mkdir(parents=True, exist_ok=True)
        settings = DenoiserSettings(steps=steps, seed=seed)
        denoiser = train_denoiser(
            lessons.good,
            lessons.erased,
            components=len(found.components),
            modes=max(component.modes for component in found.components),
            settings=settings,
            checkpoint=out / "denoiser.checkpoint",
            key=f"{normals.fingerprint} {settings} {lessons.digest}",
            progress=progress,
        )
        drawn = draw(denoiser, lessons.questions, seed=seed, progress=progress)
        learned = understanding(denoiser, lessons.held_out, drawn, seed=seed)
        draw_tokens(denoiser, drawn, len(found.components), out / "tokens.png", seed=seed)
    typer.echo(
        f"attention's IoU with the components, mean over them: {learned.told_where:.3f} where the prompt has boxes, "
        f"{learned.told_what:.3f} without"
    )
    typer.echo(
        f"an edit changes a pixel by {learned.inside:.1f} of 255 within its masks, by {learned.outside:.1f} without"
    )
    for change, way in learned.way.items():
        typer.echo(f"{change}: the drawing goes {way:.0%} of the way to the same change of real pixels")
    typer.echo(f"to look at: {out / 'tokens.png'}")
