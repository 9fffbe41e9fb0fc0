"""`python -m commands.compare MODEL MODEL...`: which scored model is better, and how sure that is."""

import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import click

from mlops.cards.scored_model import load_model, score_table, verdict_table
from mlops.project import params
from mlops.project.errors import UserError, command_line
from mlops.promotion.naming import model_name
from mlops.scoring.comparison import compare, explanation, sentence
from mlops.scoring.evaluation import LOWER_IS_BETTER, Noise

METRICS = list(LOWER_IS_BETTER)
TITLE = b"<title>Which of "
"""With this begins the page of an earlier comparison, the one kind of file that is written over."""
EXAMPLES = """\b
Examples:
  python -m commands.compare champion 3
  python -m commands.compare 2 3 4 --metric kid --html comparison.html
  python -m commands.compare champion 0123456789abcdef0123456789abcdef
"""


@click.command(epilog=EXAMPLES)
@click.argument("first", metavar="MODEL")
@click.argument("others", metavar="MODEL...", nargs=-1, required=True)
@click.option(
    "--metric",
    type=click.Choice(METRICS),
    metavar="METRIC",
    help=f"Decides: {', '.join(METRICS)}.  [default: register.metric]",
)
@click.option(
    "--noise", type=click.Choice(get_args(Noise)), help="What a difference must exceed.  [default: register.noise]"
)
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Also write a page with pictures.")
@command_line()
def main(first: str, others: tuple[str, ...], metric: str | None, noise: Noise | None, html: Path | None) -> None:
    """Compare models with the first. Each is a version, an alias, models:/NAME@ALIAS or the id of a run."""
    values = params.load()
    configured = replace(values.register, model_name=model_name(values.register, values.data))
    if html and html.exists() and TITLE not in html.read_bytes()[:500]:
        raise UserError(f"{html} is not a page of this command; move it, or name a new file")
    with TemporaryDirectory() as folder:
        models = []
        for number, model in enumerate([first, *others]):
            target = Path(folder) / str(number)
            target.mkdir()
            models.append(load_model(configured.model_name, model, target))
        metric, noise, rate = metric or configured.metric, noise or configured.noise, configured.false_promotion_rate
        first_evaluation = models[0].evaluation
        comparisons = [compare(first_evaluation, other.evaluation, metric, noise, rate) for other in models[1:]]
        if html:
            from mlops.cards.comparison_page import page  # only here: a table needs no matplotlib

            html.parent.mkdir(parents=True, exist_ok=True)
            html.write_text(page(models, comparisons), encoding="utf-8")
    width = shutil.get_terminal_size((120, 24)).columns
    print("\n".join(sentence(pair) for pair in comparisons))
    print(f"\n{score_table(models, comparisons).to_string(line_width=width)}")
    print(f"\nagainst {first_evaluation.name}:\n{verdict_table(comparisons).to_string(line_width=width)}")
    print(f"\n{explanation(comparisons)}")
    if html:
        print(f"\nintervals and pictures: {html}")


if __name__ == "__main__":
    main()
