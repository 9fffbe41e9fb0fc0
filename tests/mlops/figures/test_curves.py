import io

from PIL import Image

from gan_core.training.instruments import NAMES
from mlops.figures.curves import instruments_picture, snapshots_picture

ROWS = [{"step": float(step)} | dict.fromkeys(("d_loss", "g_loss", *NAMES), 0.1 * step) for step in range(1, 8)]


def picture(rows: list[dict[str, float]], sentence: str = "healthy") -> Image.Image:
    return Image.open(io.BytesIO(instruments_picture(rows, sentence)))


def test_the_same_rows_give_the_same_bytes_without_date_and_version() -> None:
    assert instruments_picture(ROWS, "healthy") == instruments_picture(ROWS, "healthy")
    assert set(picture(ROWS).info) == {"dpi"}


def test_every_reading_that_is_shown_changes_the_picture() -> None:
    usual = picture(ROWS).tobytes()
    last_row = ("d_loss", "g_loss", "g_update_ratio")
    shown = ("real_prob", "unseen_prob", "fake_prob", "value", "unseen_value", "jsd", "unseen_jsd", "distance")
    for name in (*shown, "unseen_distance", "d_grad_norm", "g_grad_norm", "variety", "g_signal", *last_row):
        assert picture([row | {name: 0.05 * row["step"]} for row in ROWS]).tobytes() != usual, name
    assert picture(ROWS, "stalled").tobytes() != usual


def test_the_curve_of_snapshots_shows_scores_interval_and_the_chosen_step() -> None:
    rows = [{"step": float(step), "above_last": 1 / step, "low": 0.5 / step, "high": 2 / step} for step in (1, 2, 3)]
    usual = snapshots_picture(rows, "kid", 3)
    assert usual == snapshots_picture(rows, "kid", 3)
    others = [[rows[0] | {name: 1.1 * rows[0][name]}, *rows[1:]] for name in ("above_last", "low", "high")]
    assert (
        len({usual, snapshots_picture(rows, "kid", 2), *(snapshots_picture(other, "kid", 3) for other in others)}) == 5
    )
    assert snapshots_picture([], "kid", 3)
