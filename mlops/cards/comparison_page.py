"""A comparison of models as one page that needs no network: verdicts, scores, intervals and pictures."""

import base64
import json
from html import escape
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mlops.figures.curves import BLUE, GREEN, GREY, ORANGE, png_of
from mlops.scoring.comparison import PICTURES, Comparison, Model, bounds, explanation, sentences
from mlops.scoring.evaluation import LOWER_IS_BETTER

COLOURS = {"better": GREEN, "worse": ORANGE, "cannot tell": BLUE}
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; margin: 24px auto; max-width: 1500px; padding: 0 24px; }
h1 { font-size: 24px; } h2 { font-size: 18px; margin-top: 32px; }
.verdict { font-size: 17px; margin: 6px 0; } .how { color: #555; max-width: 1000px; }
table { border-collapse: collapse; }
td, th { padding: 5px 18px 5px 0; text-align: left; border-bottom: 1px solid #ddd; vertical-align: top; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; } small { color: #555; }
img { max-width: 100%; height: auto; } label img { cursor: zoom-in; } input { display: none; }
input:checked + img { position: fixed; inset: 0; width: 100%; height: 100%; object-fit: contain; background: white; }
.row { display: grid; gap: 20px; } figure { margin: 0; }
figcaption { font-weight: 600; margin-bottom: 4px; } code { font-size: 13px; }
"""


def page(comparison: Comparison) -> str:
    """Return the page as HTML; it is the same for the same comparison."""
    title = f"Which of {len(comparison.models)} models is better?"
    verdicts = "".join(f'<p class="verdict">{escape(said)}</p>' for said in sentences(comparison))
    parts = [
        f"<h1>{title}</h1>{verdicts}<p class='how'>{escape(explanation(comparison))}</p>",
        f"<h2>Scores</h2>{_scores(comparison)}",
        "<h2>Intervals</h2><p class='how'>Dashed: real test images, where they are in the range of the models.</p>"
        f"{_image(intervals_picture(comparison), 'scores with their 95 % intervals')}",
        *(f"<h2>{text}</h2>{_row(comparison.models, name)}" for name, text in PICTURES.items()),
        f"<h2>What differs in how they were made</h2>{_made(comparison.models)}",
        f"<h2>Passport</h2>{_passport(comparison.models[0])}",
    ]
    head = f"<meta charset='utf-8'><title>{title}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _scores(comparison: Comparison) -> str:
    first = comparison.models[0]
    head = "".join(f"<th>{escape(model.title)}</th>" for model in comparison.models)
    rows = [f"<tr><th>score</th><th>better is</th>{head}<th>real test images</th></tr>"]
    for metric in comparison.metrics:
        column = first.column(metric)
        cells = [_cell(first.interval(metric, comparison.noise))]
        for model, outcomes in zip(comparison.models[1:], comparison.outcomes, strict=True):
            cells.append(_cell(model.interval(metric, comparison.noise), outcomes[metric].verdict))
        real = _cell(f"{first.real(metric):.4g}")
        better = "lower" if LOWER_IS_BETTER[metric] else "higher"
        rows.append(f"<tr><th>{escape(column)}</th><td>{better}</td>{''.join(cells)}{real}</tr>")
    doctors = "".join(f"<td>{escape(model.found.tags.get('doctor.verdict', ''))}</td>" for model in comparison.models)
    rows.append(f"<tr><th>doctor</th><td></td>{doctors}<td></td></tr>")
    return f"<table>{''.join(rows)}</table>"


def _cell(text: str, verdict: str = "") -> str:
    said = f"<br><b style='color:{COLOURS[verdict]}'>{verdict}</b>" if verdict else ""
    return f"<td class='number'>{escape(text)}{said}</td>"


def _image(png: bytes, alt: str) -> str:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return f"<label><input type='checkbox'><img title='click to enlarge' alt='{escape(alt)}' src='{source}'></label>"


def _row(models: list[Model], name: str) -> str:
    figures = "".join(
        f"<figure><figcaption>{escape(model.title)}</figcaption>"
        f"{_image((model.folder / name).read_bytes(), f'{name} of {model.title}')}</figure>"
        for model in models
    )
    return f"<div class='row' style='grid-template-columns: repeat({len(models)}, 1fr)'>{figures}</div>"


def _made(models: list[Model]) -> str:
    """Return a table of the parameters and the identity in which the models' runs differ."""
    made = [model.found.params | {"git commit": model.found.tags.get("git.commit", "unknown")} for model in models]
    names = sorted({name for values in made for name in values})
    differing = [name for name in names if len({values.get(name) for values in made}) > 1]
    rows = [_made_row(name, [values.get(name, "") for values in made]) for name in differing]
    if not rows:
        return "<p>Nothing that MLflow knows of.</p>"
    head = "".join(f"<th>{escape(model.title)}</th>" for model in models)
    return f"<table><tr><th>parameter</th>{head}</tr>{''.join(rows)}</table>"


def _made_row(name: str, values: list[str]) -> str:
    return f"<tr><th>{escape(name)}</th>{''.join(f'<td>{escape(value)}</td>' for value in values)}</tr>"


def _passport(model: Model) -> str:
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td><code>{escape(_written(value))}</code></td></tr>"
        for name, value in model.evidence.passport.items()
    )
    sha256 = escape(str(model.evidence.scores["passport"]))
    return f"<p>All scores above are under the same passport, sha256 <code>{sha256}</code>.</p><table>{rows}</table>"


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def intervals_picture(comparison: Comparison) -> bytes:
    """Return the means and intervals of all models as the bytes of a PNG file: a panel for each metric."""
    columns, count = 4, len(comparison.metrics)
    lines = -(-count // columns)
    figure = Figure(figsize=(14, lines * (1.3 + 0.4 * len(comparison.models))), layout="constrained")
    panels = np.atleast_2d(figure.subplots(lines, columns, sharey=True))
    for axes, metric in zip(panels.flat, comparison.metrics, strict=False):
        _panel(axes, comparison, metric)
    for axes in panels.flat[count:]:
        axes.set_visible(False)
    return png_of(figure)


def _panel(axes: Axes, comparison: Comparison, metric: str) -> None:
    first, metrics = comparison.models[0], [outcomes[metric] for outcomes in comparison.outcomes]
    verdicts = ["", *(outcome.verdict for outcome in metrics)]
    shown = [bounds(model.evidence.scores, model.column(metric), comparison.noise) for model in comparison.models]
    for place, (found, verdict) in enumerate(zip(shown, verdicts, strict=True)):
        assert found is not None  # or there would be no comparison
        axes.hlines(place, found.low, found.high, color=COLOURS.get(verdict, "black"), linewidth=3)
        axes.plot(found.mean, place, "o", color=COLOURS.get(verdict, "black"))
    limits = axes.get_xlim()
    axes.axvline(first.real(metric), color=GREY, linestyle="--", linewidth=1)
    axes.set_xlim(limits)
    better = "lower" if LOWER_IS_BETTER[metric] else "higher"
    axes.set_title(f"{first.column(metric)}: {better} is better", loc="left", fontsize=10)
    axes.set_yticks(range(len(comparison.models)), [model.title for model in comparison.models])
    axes.set_ylim(len(comparison.models) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(4, prune="both"))
    axes.spines[["top", "right"]].set_visible(False)
