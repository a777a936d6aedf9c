"""The paper's tables as data."""

from __future__ import annotations

from emt_plugin.catalog.published import published


def test_every_row_is_whole() -> None:
    paper = published()
    assert paper.image_sets == ("mnist", "cifar10", "cifar100", "miniimagenet")
    assert all(len(row.accuracy) == 4 and all(0 <= value <= 1 for value in row.accuracy) for row in paper.rows)
    by_table: dict[str, int] = {}
    for row in paper.rows:
        by_table[row.table] = by_table.get(row.table, 0) + 1
    # 1: the encoder as released and four sets by two epochs. 2: six models and three encoders. 4-8: two as released, eight
    # of 13b, three sets by two methods by three epochs of 7b. 9: two bases, four sets by four. 10-11: four by two by two.
    assert by_table == {"1": 9, "2": 9, "4-8": 28, "9": 18, "10-11": 16}


def test_tables_agree_where_they_must() -> None:
    paper = published()
    for model in ("LLaVA-7b", "LLaVA-13b"):
        (released,) = paper.where(table="2", model=model)
        (base,) = paper.where(table="9", model=model, epoch=0)
        assert released.accuracy == base.accuracy
    assert len(paper.trajectory("LLaVA-7b", "miniimagenet", "lora")) == 4
    assert len(paper.trajectory("LLaVA-13b", "miniimagenet", "lora")) == 2


def test_the_numbers_that_the_project_speaks_of() -> None:
    paper = published()
    (judge,) = paper.where(table="9", model="LLaVA-7b", tuned_on="mnist", method="linear")
    (text,) = paper.where(table="4-8", model="LLaVA-7b", tuned_on="mnist", method="linear", epoch=3)
    assert (judge.accuracy[1], text.accuracy[1]) == (0.0926, 0.8087)
