"""The table of a conditional generator's scores by class, beside those of real test images."""

import pandas as pd
from torch import Tensor

from gan_core.metrics.by_class import class_scores
from gan_core.metrics.features import Features
from mlops.scoring.scorer import Scorer


def class_table(scorer: Scorer, generated: Features, classes: tuple[str, ...]) -> pd.DataFrame:
    """Return a row for each class: its name, the number of images, and scores of generated and of real ones.

    `generated` are the images of one bank, whose labels are those of the scored real images. Scores are the columns
    `precision` and `fid`, empty if the class has too few images, and, of an extractor that names these classes,
    `label_accuracy`; those of real images end in `_real`.
    """
    labels = scorer.scored_labels
    assert labels is not None
    ours, real = (_rows(scorer, images, labels) for images in (generated, scorer.real_features))
    table = ours.join(real.drop(columns="images").add_suffix("_real")).assign(images=ours["images"].astype(int))
    table.insert(0, "class", list(classes))
    return table


def _rows(scorer: Scorer, images: Features, labels: Tensor) -> pd.DataFrame:
    rows = class_scores(images, labels, scorer.reference)
    for label, row in enumerate(rows):
        own = labels == label
        if own.any():
            row.update(scorer.label_accuracy(Features(images.features[own], images.logits[own]), labels[own]))
    return pd.DataFrame(rows)
