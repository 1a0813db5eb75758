"""What a stream did, for the terminal."""

from rich.table import Table

from ..measures.streaming import ElementResult, StreamResult

_SHOWN = 12  # elements: of more, the first and the last


def stream_table(result: StreamResult) -> Table:
    """One row an element; of many, the first and the last."""
    table = Table(
        title=f"{result.model} on {result.data}, {result.streams} streams side by side, at most "
        f"{result.inner_steps} inner steps an element"
    )
    for heading in ("element", "streams", "spikes / stream", "steps until silent", "answers"):
        table.add_column(heading, justify="right")
    rows = result.elements
    if len(rows) > _SHOWN:
        for row in rows[: _SHOWN // 2]:
            table.add_row(*_cells(row))
        table.add_row(*["..."] * 5)
        rows = rows[-_SHOWN // 2 :]
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: ElementResult) -> tuple[str, ...]:
    shown = ", ".join(str(answer) for answer in row.answers[:4])
    more = ", ..." if len(row.answers) > 4 else ""
    steps = "not silent" if row.steps is None else f"{row.steps:.1f}"
    return str(row.element), str(row.streams), f"{row.spikes:,.1f}", steps, f"{shown}{more}"


def stream_lines(result: StreamResult) -> list[str]:
    """What all elements did together."""
    rows = result.elements
    pushed = sum(row.streams for row in rows)
    mean = sum(row.spikes * row.streams for row in rows) / max(pushed, 1)
    lines = [
        f"{len(rows)} elements from element {result.first} on, {mean:,.1f} spikes an element and stream",
        f"between elements a stream keeps {result.state_numbers:,} whole numbers, however long it is",
    ]
    if result.accuracy is not None:
        lines.append(f"last answers: {result.accuracy:.2f} % right")
    return lines
