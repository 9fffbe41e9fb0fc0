"""Pictures of what `experiments.densities.densities` measured."""

import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlops.figures.curves import BLUE, GREEN, ORANGE, png_of
from mlops.project.result_files import load_json
from mlops.safety.new_outputs import Output

BLACK = "#000000"
"""Of real points. With the colours of `mlops.figures.curves` each curve also has a line style of its own."""
LINE_TITLES = {"gaussian": "Gaussian", "mixture": "mixture of three", "heavy_tail": "heavy tail: Student t, 3 d.o.f."}
PLANE_TITLES = {"ring": "ring of 8 Gaussians", "grid": "grid of 25 Gaussians"}
HALF_WIDTHS = {"gaussian": 5.0, "mixture": 6.0, "heavy_tail": 10.0, "ring": 1.4, "grid": 5.2}
MOMENTS = ("before", "during", "after")
STYLE: dict[Any, Any] = {
    "font.size": 13,
    "axes.titlesize": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 2.0,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 100,
}


def density_pictures(results: Path, pictures: Output) -> None:
    """Draw what was measured; the same results give the same bytes.

    Args:
        results: what `experiments.densities.densities` wrote.
        pictures: new; a folder with `learning.png`, `value.png`, `gradients.png` and `modes.png`.
    """
    measured = load_json(results)
    mpl.use("Agg")
    drawings = {"learning": _learning, "value": _value, "gradients": _gradients, "modes": _modes}
    pictures.mkdir(parents=True)
    for name, draw in drawings.items():
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(STYLE)
            (pictures / f"{name}.png").write_bytes(png_of(draw(measured)))


def _learning(measured: dict[str, Any]) -> Figure:
    """Draw figure 1 of Goodfellow et al. 2014 with measured curves: a row for each density, and one for the tails."""
    figure = Figure(figsize=(13, 13))
    panels = figure.subplots(len(LINE_TITLES) + 1, len(MOMENTS))
    handles: dict[str, Any] = {}
    for row, (name, title) in zip(panels, LINE_TITLES.items(), strict=False):
        row[0].set_ylabel(f"{title}\ndensity")
        ceiling = 1.15 * max(max(shown["p_data"] + shown["p_g"]) for shown in measured[name]["shown"])
        for axes, shown, moment in zip(row, measured[name]["shown"], MOMENTS, strict=True):
            of_d = axes.twinx()
            _draw_densities(axes, shown)
            _draw_d(of_d, shown, labelled=moment == MOMENTS[-1])
            axes.set_title(f"{moment}: step {shown['step']:,}")
            axes.set_xlim(-HALF_WIDTHS[name], HALF_WIDTHS[name])
            axes.set_ylim(0, ceiling)
            handles |= {line.get_label(): line for line in (*axes.lines, *of_d.lines)}
    panels[-1][0].set_ylabel("heavy tail again\ndensity, logarithmic")
    for axes, shown in zip(panels[-1], measured["heavy_tail"]["shown"], strict=True):
        _draw_densities(axes, shown)
        axes.set_yscale("log")
        axes.set_ylim(1e-5, 1)
        axes.set_xlim(-20, 20)
        axes.set_xlabel("x")
    figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=4, fontsize=16)
    return figure


def _draw_densities(axes: Axes, shown: dict[str, Any]) -> None:
    x, p_data = np.array(shown["x"]), np.array(shown["p_data"])
    axes.fill_between(x, p_data, 1e-9, color="#DDDDDD", linewidth=0)
    axes.plot(x, p_data, color=BLACK, linestyle=(0, (1, 1)), label="$p_{data}$")
    axes.plot(x, shown["p_g"], color=GREEN, label="$p_g$")


def _draw_d(axes: Axes, shown: dict[str, Any], *, labelled: bool) -> None:
    total = np.array(shown["p_data"]) + np.array(shown["p_g"])
    d_star = np.where(
        total > 0.005 * total.max(), shown["d_star_prob"], np.nan
    )  # beyond, the histogram is mostly noise
    axes.plot(shown["x"], d_star, color=ORANGE, linewidth=4, alpha=0.5, label="$D^*$, exact")
    axes.plot(shown["x"], shown["d_prob"], color=BLUE, linestyle="--", label="$D$, learned")
    axes.set_ylim(0, 1.05)
    axes.set_yticks([0, 0.5, 1], ["0", "½", "1"], color=BLUE)
    axes.spines["right"].set_visible(True)
    if labelled:
        axes.set_ylabel("D(x)", color=BLUE)


def _value(measured: dict[str, Any]) -> Figure:
    """Draw V(D, G) through training: D raises it to -log 4 + 2 JSD, G lowers that to -log 4."""
    figure = Figure(figsize=(13, 5))
    panels = figure.subplots(1, len(LINE_TITLES), sharey=True)
    looks: dict[str, dict[str, Any]] = {
        "bound": {"color": ORANGE, "linewidth": 4, "alpha": 0.5, "label": "$-\\log\\,4 + 2\\,JSD$: the best D"},
        "value": {"color": BLUE, "linestyle": "--", "marker": ".", "label": "$V(D, G)$: the learned D"},
    }
    for axes, (name, title) in zip(panels, LINE_TITLES.items(), strict=True):
        curves = measured[name]["curves"]
        for curve, look in looks.items():
            axes.plot(curves["step"], np.array(curves[curve]) + math.log(4), **look)
        axes.axhline(0, color=BLACK, linestyle=(0, (1, 1)), label="$-\\log\\,4$: $p_g = p_{data}$")
        axes.set_yscale("symlog", linthresh=0.01, linscale=1)
        axes.set_yticks([-0.1, -0.01, 0, 0.01, 0.1, 1], ["-0.1", "-0.01", "0", "0.01", "0.1", "1"])
        axes.set_title(title)
        axes.set_xlabel("step")
    panels[0].set_ylabel("nats above $-\\log\\,4$")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=16)
    return figure


def _gradients(measured: dict[str, Any]) -> Figure:
    """Draw the gradients of a rejected generator: by theory and autograd for a logit, by autograd for its weights."""
    figure = Figure(figsize=(13, 5.6))
    by_logit, by_weights = figure.subplots(1, 2)
    readings = measured["gradients"]
    steps, fake_prob = ([reading[name] for reading in readings] for name in ("step", "fake_prob"))
    certainty = np.geomspace(min(fake_prob) / 2, 0.9, 200)
    theory = {"non_saturating": 1 - certainty, "minimax": certainty}
    looks: dict[str, dict[str, Any]] = {
        "non_saturating": {"color": BLUE, "marker": "s", "label": "non-saturating: $-\\log D(G(z))$"},
        "minimax": {"color": ORANGE, "marker": "o", "label": "saturating: $\\log(1 - D(G(z)))$"},
    }
    for name, look in looks.items():
        marks = {**look, "linestyle": "", "markersize": 5}
        by_logit.plot(certainty, theory[name], color=look["color"], linewidth=6, alpha=0.3)
        by_logit.plot(fake_prob, [reading["by_logit"][name] for reading in readings], **marks)
        by_weights.plot(steps, [reading["by_weights"][name] for reading in readings], **look, markersize=5)
    by_logit.set_xscale("log")
    by_logit.invert_xaxis()
    by_logit.set_xlabel("mean D(G(z)): D grows confident to the right →")
    by_logit.set_ylabel("mean |d loss / d logit|")
    by_logit.set_title("for a logit: marks by autograd, bands 1 - D and D")
    by_weights.set_xlabel("steps of D alone, against a poor generator →")
    by_weights.set_ylabel("norm of d loss / d weights of G")
    by_weights.set_title("for the generator's weights, by autograd")
    for axes in (by_logit, by_weights):
        axes.set_yscale("log")
    figure.legend(*by_weights.get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=16)
    return figure


def _modes(measured: dict[str, Any]) -> Figure:
    """Draw points of the averaged generator beside real ones, with the coverage of many more."""
    figure = Figure(figsize=(14, 7.6))
    panels = figure.subplots(len(PLANE_TITLES), 1 + len(MOMENTS))
    for row, (name, title) in zip(panels, PLANE_TITLES.items(), strict=True):
        row[0].set_ylabel(title, fontsize=15)
        shown = measured[name]["shown"]
        titles = ["real", *(f"{moment}: step {at['step']:,}" for moment, at in zip(MOMENTS, shown, strict=True))]
        for axes, heading, at in zip(row, titles, [measured[name]["real"], *shown], strict=True):
            colour = BLACK if heading == "real" else GREEN
            axes.plot(*np.array(at["points"]).T, linestyle="", marker=".", markersize=3, alpha=0.4, color=colour)
            axes.set(xlim=(-HALF_WIDTHS[name], HALF_WIDTHS[name]), ylim=(-HALF_WIDTHS[name], HALF_WIDTHS[name]))
            axes.set_aspect("equal")
            axes.set_title(heading)
            figures = f"{at['covered']} of {at['modes']} modes, {at['high_quality_share']:.1%} good"
            axes.set_xlabel(figures, fontsize=12)
    return figure
