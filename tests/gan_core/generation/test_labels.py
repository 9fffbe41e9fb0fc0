import pytest
import torch

from gan_core.generation.labels import class_rows, grid_bank, in_turn, label_named
from gan_core.generation.latents import z_bank
from gan_core.runtime.randomness import stream
from tests.gan_core.examples import CONDITIONAL, MLP


def test_a_class_is_named_before_it_is_counted() -> None:
    assert [label_named(asked, ["ant", "0", "bee"]) for asked in ("bee", "0", "2")] == [2, 1, 2]


@pytest.mark.parametrize(("asked", "classes", "named"), [("cow", ["ant", "bee"], "ant, bee"), ("2", ["a", "b"], "2")])
def test_a_class_that_is_not_there_is_refused_by_name(asked: str, classes: list[str], named: str) -> None:
    with pytest.raises(ValueError, match=f"'{asked}'.*{named}"):
        label_named(asked, classes)


def test_a_generator_without_classes_is_asked_for_none() -> None:
    with pytest.raises(ValueError, match="no label"):
        label_named("0", ())


def test_classes_take_turns_wherever_a_bank_is_entered() -> None:
    assert in_turn(3, count=5).tolist() == [0, 1, 2, 0, 1]
    assert torch.equal(in_turn(3, count=4, first=7), in_turn(3, count=11)[7:])


@pytest.mark.parametrize(
    ("classes", "rows"), [(2, [0] * 5 + [1] * 5), (4, [0, 0, 1, 1, 2, 2, 3, 3]), (10, range(10)), (90, range(20))]
)
def test_a_grid_has_rows_of_one_class_and_the_same_latents_for_all(classes: int, rows: list[int]) -> None:
    z, labels = grid_bank(CONDITIONAL[0], classes, seed=3, columns=6, rows=10)
    assert labels is not None
    assert labels.reshape(-1, 6).unique_consecutive(dim=1).flatten().tolist() == list(rows)
    shown = len(set(rows))
    same = z.reshape(shown, -1, z.shape[1])
    assert torch.equal(same, same[:1].expand_as(same))
    assert torch.equal(same[0], z_bank(CONDITIONAL[0], seed=3, count=len(z) // shown))


def test_a_grid_without_classes_is_the_first_of_a_bank() -> None:
    z, labels = grid_bank(MLP, 0, seed=3, columns=6, rows=10)
    assert torch.equal(z, z_bank(MLP, seed=3, count=60))
    assert labels is None


def test_classes_with_whole_rows_are_shown_row_by_row() -> None:
    labels = torch.tensor([2, 0, 2, 1, 0, 2, 0])
    chosen = torch.stack([class_rows(labels, 2, stream(0, "rows", draw)) for draw in range(60)])
    assert (labels[chosen] == torch.tensor([0, 0, 2, 2])).all()
    assert {tuple(row.unique().tolist()) for row in chosen[:, :2]} == {(1, 4), (1, 6), (4, 6)}  # never one twice
    assert class_rows(labels, 4, stream(0, "rows")).tolist() == []
