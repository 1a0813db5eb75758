"""Tables in narrow terminals: nothing is cut, lines run over."""

import pytest
from rich.table import Table

from spikemorph.cli import output


@pytest.mark.parametrize("width", [20, 40, 200])
def test_no_number_and_no_name_is_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    monkeypatch.setattr(output.out, "width", width)
    whole, folding = Table(), Table()
    for number in range(8):
        whole.add_column(f"heading{number}", no_wrap=True)
        folding.add_column(f"h{number}", min_width=6 if number == 0 else None)
    cells = [f"{number}.123456" for number in range(8)]
    whole.add_row(*cells)
    folding.add_row("a long name of a network", *cells[1:])
    output.show(whole)
    output.show(folding)
    shown = capsys.readouterr().out
    assert "…" not in shown
    for cell in cells[1:]:
        assert shown.count(cell) == 2, cell
    assert output.out.width == width
