"""A comparison of models as one page that needs no network: verdicts, scores, intervals and pictures."""

import base64
import json
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mlops.cards.scored_model import PICTURES, ScoredModel
from mlops.cards.templates import render
from mlops.figures.curves import BLUE, GREEN, GREY, ORANGE, png_of
from mlops.scoring.comparison import Comparison, direction, explanation, sentence, shown_interval

COLOURS = {"better": GREEN, "worse": ORANGE, "cannot tell": BLUE}


def page(models: Sequence[ScoredModel], comparisons: Sequence[Comparison]) -> str:
    """Return HTML without links to anything outside it, the same for the same comparisons of models with the first."""
    first, noise = comparisons[0].first, comparisons[0].noise
    rows = [
        {
            "name": first.public_name(metric),
            "better": direction(metric),
            "shown": [shown_interval(model.evaluation.scores[metric].interval(noise)) for model in models],
            "verdicts": ["", *(pair.outcomes[metric].verdict for pair in comparisons)],
            "real": f"{first.scores[metric].real:.4g}",
        }
        for metric in comparisons[0].outcomes
    ]
    passport = {
        name: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for name, value in first.passport.items()
    }
    return render(
        "comparison_page.html.jinja",
        sentences=[sentence(pair) for pair in comparisons],
        explanation=explanation(comparisons),
        models=models,
        rows=rows,
        intervals=_base64(intervals_picture(comparisons)),
        pictures=[
            (title, [_base64((model.folder / name).read_bytes()) for model in models], name)
            for name, title in PICTURES.items()
        ],
        differing=_differing(models),
        passport=passport,
        passport_sha256=first.passport_sha256,
        colours=COLOURS,
    )


def _base64(png: bytes) -> str:
    return base64.b64encode(png).decode()


def _differing(models: Sequence[ScoredModel]) -> dict[str, list[str]]:
    """Return the parameters and the identity in which the models' runs differ, one value a model."""
    made = [model.record.params | {"git commit": model.record.tags.get("git.commit", "unknown")} for model in models]
    names = sorted({name for values in made for name in values})
    by_name = {name: [values.get(name, "") for values in made] for name in names}
    return {name: values for name, values in by_name.items() if len(set(values)) > 1}


def intervals_picture(comparisons: Sequence[Comparison]) -> bytes:
    """Return the means and intervals of all models as the bytes of a PNG file: a panel for each metric."""
    metrics, columns = list(comparisons[0].outcomes), 4
    lines = -(-len(metrics) // columns)
    figure = Figure(figsize=(14, lines * (1.7 + 0.4 * len(comparisons))), layout="constrained")
    panels = np.atleast_2d(figure.subplots(lines, columns, sharey=True))
    for axes, metric in zip(panels.flat, metrics, strict=False):
        _panel(axes, comparisons, metric)
    for axes in panels.flat[len(metrics) :]:
        axes.set_visible(False)
    return png_of(figure)


def _panel(axes: Axes, comparisons: Sequence[Comparison], metric: str) -> None:
    first = comparisons[0].first
    evaluations = [first, *(pair.other for pair in comparisons)]
    colours = ["black", *(COLOURS[pair.outcomes[metric].verdict] for pair in comparisons)]
    for place, (evaluation, colour) in enumerate(zip(evaluations, colours, strict=True)):
        interval = evaluation.scores[metric].interval(comparisons[0].noise)
        assert interval is not None  # or there would be no comparison
        axes.hlines(place, interval.low, interval.high, color=colour, linewidth=3)
        axes.plot(interval.mean, place, "o", color=colour)
    limits = axes.get_xlim()
    axes.axvline(first.scores[metric].real, color=GREY, linestyle="--", linewidth=1)
    axes.set_xlim(limits)
    axes.set_title(f"{first.public_name(metric)}: {direction(metric)} is better", loc="left", fontsize=10)
    axes.set_yticks(range(len(evaluations)), [evaluation.name for evaluation in evaluations])
    axes.set_ylim(len(evaluations) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(4, prune="both"))
    axes.spines[["top", "right"]].set_visible(False)
