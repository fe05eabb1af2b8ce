"""Markdown tables, as a renderer and a reader of plain text see them."""

from wdsr_jax.system.tables import markdown_table


def test_columns_are_aligned_text_left_and_numbers_right():
    assert markdown_table(["set", "PSNR"], [["Set5", "37.91"], ["B", "9.5"]]).splitlines() == [
        "| set  |  PSNR |",
        "| ---- | ----: |",
        "| Set5 | 37.91 |",
        "| B    |   9.5 |",
    ]


def test_a_cell_cannot_end_its_column_or_its_line():
    *_, row = markdown_table(["set"], [["a|b\n| c |"]]).splitlines()
    assert row == r"| a\|b\n\| c \| |"
