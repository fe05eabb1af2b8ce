"""Tables in Markdown."""

from collections.abc import Sequence

from wdsr_jax.system.text import printable


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown that can be read as it is: the first column is text, the others are numbers.

    Args:
        head: the heading of each column.
        rows: the cells of each row, as many as there are headings.

    Returns:
        Lines of one length: the first column aligned to the left, the others to the right. `|` in a cell is
        escaped.
    """
    head, *rows = ([printable(cell).replace("|", r"\|") for cell in row] for row in (head, *rows))
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        return f"| {' | '.join(cells)} |"

    return "\n".join(map(line, (head, rule, *rows)))
