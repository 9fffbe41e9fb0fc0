"""`python -m commands.compare MODEL MODEL...`: which model is better, and how sure that is.

Each MODEL is the number of a version, an alias, or the id of a run; all are compared with the first.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

from mlops.cards.scored_model import load_model, score_table, verdict_table
from mlops.project import params
from mlops.project.errors import UserError
from mlops.scoring.comparison import compare, explanation, sentence
from mlops.scoring.evaluation import LOWER_IS_BETTER, Noise


def main(arguments: Sequence[str]) -> None:
    """Print the comparison and, if asked to, write it as a page.

    Args:
        arguments: of the command line.

    Raises:
        UserError: a model is unknown or has no scores, or scores cannot be compared.
    """
    configured = params.load().register
    given = _parser().parse_args(arguments)
    metric, noise = given.metric or configured.metric, given.noise or configured.noise
    with TemporaryDirectory() as folder:
        models = []
        for number, wanted in enumerate([given.first, *given.others]):
            target = Path(folder) / str(number)
            target.mkdir()
            models.append(load_model(configured.model_name, wanted, target))
        first, rate = models[0].evaluation, configured.false_promotion_rate
        comparisons = [compare(first, model.evaluation, metric, noise, rate) for model in models[1:]]
        if given.html:
            from mlops.cards.comparison_page import page  # only here: a table needs no matplotlib

            given.html.parent.mkdir(parents=True, exist_ok=True)
            given.html.write_text(page(models, comparisons), encoding="utf-8")
    width = shutil.get_terminal_size((120, 24)).columns
    print("\n".join(sentence(pair) for pair in comparisons))
    print(f"\n{score_table(models, comparisons).to_string(line_width=width)}")
    print(f"\nagainst {first.name}:\n{verdict_table(comparisons).to_string(line_width=width)}")
    print(f"\n{explanation(comparisons)}")
    if given.html:
        print(f"\nintervals and pictures: {given.html}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m commands.compare", description="which model is better, and how sure"
    )
    parser.add_argument("first", metavar="MODEL", help="a version, an alias (champion) or the id of a run")
    parser.add_argument("others", metavar="MODEL", nargs="+", help="are compared with the first")
    parser.add_argument("--metric", choices=list(LOWER_IS_BETTER), help="that decides; default: register.metric")
    parser.add_argument("--noise", choices=get_args(Noise), help="to look through; default: register.noise")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write one page with intervals and pictures")
    return parser


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
