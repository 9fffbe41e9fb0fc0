"""Curves that a person looks at."""

import io
import math
import textwrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure

Rows = list[dict[str, float]]
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#888888"
"""Okabe and Ito's colours, which can be told apart without red and green."""


def instruments_picture(rows: Rows, sentence: str) -> bytes:
    """Return the readings of a training (rows of history.csv) as the bytes of a PNG file; the same for the same rows.

    It has eight panels over steps: probabilities, value, divergence, distance, gradients, the generator's variety,
    losses, and the length of the generator's steps. The title is the doctor's sentence.
    """
    figure = Figure(figsize=(12, 13.5), layout="constrained")
    figure.suptitle("\n".join(textwrap.wrap(sentence, 120)), fontsize=11, ha="left", x=0.01)
    (probabilities, values), (divergence, distance), (gradients, generator), (losses, update) = figure.subplots(
        4, 2, sharex=True
    )

    _curve(probabilities, rows, "real_prob", "D(x), training images", BLUE)
    _curve(probabilities, rows, "unseen_prob", "D(x), images held out from D", GREEN)
    _curve(probabilities, rows, "fake_prob", "D(G(z))", ORANGE)
    _finish(probabilities, "output of the discriminator", 0.5, "equilibrium: 1/2")
    probabilities.set_ylim(-0.02, 1.02)

    _curve(values, rows, "value", "V(D, G), training images", BLUE)
    _curve(values, rows, "unseen_value", "V(D, G), images held out from D", GREEN)
    _finish(values, "value of the game, in nats", -math.log(4), "equilibrium: $-$log 4")
    values.set_ylim(-2.5, 0.1)

    _curve(divergence, rows, "jsd", "training images", BLUE)
    _curve(divergence, rows, "unseen_jsd", "images held out from D", GREEN)
    _finish(
        divergence, "Jensen-Shannon divergence estimated from D, in nats", math.log(2), "p_g and p_data apart: log 2"
    )
    divergence.set_ylim(-0.02, 0.75)

    _curve(distance, rows, "distance", "training images", BLUE)
    _curve(distance, rows, "unseen_distance", "images held out from D", GREEN)
    _finish(distance, "distance from equilibrium: E |D $-$ 1/2|")
    distance.set_ylim(-0.01, 0.52)

    _players(rows, gradients, generator, losses, update)
    return png_of(figure)


def snapshots_picture(rows: Rows, metric: str, step: int) -> bytes:
    """Return how far the score of each snapshot is above that of the last, as the bytes of a PNG file.

    Rows have `step`, `above_last` and its interval `low`, `high`; `step` is that of the chosen one. The same rows give
    the same bytes.
    """
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    steps, low, high = ([row[name] for row in rows] for name in ("step", "low", "high"))
    axes.fill_between(steps, low, high, color=BLUE, alpha=0.2, linewidth=0, label="95 % interval of the difference")
    _curve(axes, rows, "above_last", "snapshots", BLUE)
    axes.axvline(step, color=ORANGE, linewidth=1, label="the generator")
    _finish(axes, f"{metric} on validation images, less that of the last snapshot", 0.0, "the last")
    axes.set_xlabel("step")
    return png_of(figure)


def _players(rows: Rows, gradients: Axes, generator: Axes, losses: Axes, update: Axes) -> None:
    _curve(gradients, rows, "d_grad_norm", "discriminator", BLUE)
    _curve(gradients, rows, "g_grad_norm", "generator", ORANGE)
    _finish(gradients, "norm of the gradient")
    gradients.set_yscale("log")

    _curve(generator, rows, "variety", "variety of generated images", ORANGE)
    _curve(generator, rows, "g_signal", "gradient that the loss passes on", GREEN)
    _finish(generator, "the generator", 1.0, "variety of real images")
    generator.set_ylim(-0.02, None)

    _curve(losses, rows, "d_loss", "discriminator", BLUE)
    _curve(losses, rows, "g_loss", "generator", ORANGE)
    _finish(losses, "loss")
    losses.set_xlabel("step")

    _curve(update, rows, "g_update_ratio", "generator", ORANGE)
    _finish(update, "length of a step relative to the weights")
    update.set_yscale("log")
    update.set_xlabel("step")


def png_of(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PNG file that bears neither date nor version."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()


def _curve(axes: Axes, rows: Rows, name: str, label: str, colour: str) -> None:
    steps = [row["step"] for row in rows]
    axes.plot(steps, [row[name] for row in rows], color=colour, linewidth=1, alpha=0.85, label=label)


def _finish(axes: Axes, title: str, line: float | None = None, label: str = "") -> None:
    if line is not None:
        axes.axhline(line, color=GREY, linestyle="--", linewidth=1, label=label)
    axes.set_title(title, loc="left", fontsize=11)
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
