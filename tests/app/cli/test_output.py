"""What commands print and write beside tables: CSV, standard output alone, progress, resumed attacks."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from helpers import refused

from spikemorph.cli import meter, output, program
from spikemorph.measures.robustness import Progress
from spikemorph.robust.cascade.blocks import Evaluation

Run = Callable[..., tuple[int, str, str]]
ATTACK = ("attack", "zoo:digits_mlp", "--data", "digits:test", "--eps", "8/255,16/255",
          "--attacks", "fgsm,pgd=3,refine=3", "--patience", "1,2",
          "--samples", "30", "--block", "10", "--gates", "0")  # fmt: skip


def test_csv_holds_the_rows_of_the_table(spikemorph: Run, tmp_path: Path) -> None:
    both = ("--csv", tmp_path / "a.csv", "--json", tmp_path / "a.json")
    assert spikemorph(*ATTACK, *both, "--folder", tmp_path / "f")[0] == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text())))
    wanted = json.loads((tmp_path / "a.json").read_text())["eps"]
    found = [(float(r["eps"]), r["name"], float(r["robust"])) for r in rows]
    assert found == [(e["eps"], a["name"], a["robust"]) for e in wanted for a in e["attacks"]]
    first = [name for eps, name, _ in found if eps < 0.04][:3]
    assert first == ["fgsm", "pgd", "refine"] and len(found) >= 6


def test_inner_values_have_names_with_dots(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"a": 1, "b": {"c": 2, "d": [3]}}, {"a": 4, "e": "x,y"}]
    output.write_csv(tmp_path / "r.csv", rows)
    assert (tmp_path / "r.csv").read_text() == 'a,b.c,e\n1,2,\n4,,"x,y"\n'


@pytest.mark.parametrize(("option", "read"), [("--json", json.loads), ("--csv", csv.DictReader)])
def test_a_dash_is_standard_output_and_nothing_else(
    spikemorph: Run, option: str, read: Callable[[Any], Any]
) -> None:
    status, shown, _ = spikemorph("data", "list", option, "-")
    text = shown if option == "--json" else io.StringIO(shown)
    assert status == 0 and {row["name"] for row in read(text)} >= {"digits", "mnist"}
    assert "━" in spikemorph("data", "list")[1]  # the next command prints again


def test_two_dashes_are_refused(spikemorph: Run) -> None:
    refused(spikemorph("inspect", "zoo:digits_mlp", "--json", "-", "--csv", "-"), "one alone")


def test_an_attack_goes_on_where_it_was_stopped(
    spikemorph: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run, done = Evaluation.run, list[int]()

    def counted(self: Evaluation, number: int, *rest: Any) -> Any:
        if len(done) == 4:
            done.append(number)
            raise KeyboardInterrupt
        done.append(number)
        return run(self, number, *rest)

    monkeypatch.setattr(Evaluation, "run", counted)
    status, _, said = spikemorph(*ATTACK)
    assert status == 130
    folder = Path("runs/attack-zoo-digits_mlp")
    assert f"{folder}; if stopped, the same command goes on" in " ".join(said.split())
    assert len(list(folder.rglob("block-*"))) == 4
    status, shown, said = spikemorph(*ATTACK, "--json", "a.json")
    assert status == 0 and done[4:] == [1, 1, 2]  # the block it was stopped in, again, and the last
    assert not folder.exists()
    assert "eps 16/255" in shown
    assert spikemorph(*ATTACK, "--json", "b.json", "--quiet")[2] == ""
    resumed, whole = (json.loads(Path(n).read_text()) for n in ("a.json", "b.json"))
    for result in (resumed, whole):
        result.pop("reproduce")
    assert without(resumed, "seconds") == without(whole, "seconds")


def test_a_network_gets_a_page(
    spikemorph: Run, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert spikemorph("report", files / "exact.safetensors")[0] == 0
    plain = Path("exact.html").read_text()
    words = ("--data", "digits:test:20", "--out", "p.html")
    assert spikemorph("report", files / "exact.safetensors", *words)[0] == 0
    measured = Path("p.html").read_text()
    assert "Certificate" in plain and "digits:test" in measured and "digits:test" not in plain
    (tmp_path / "run").mkdir()
    refused(spikemorph("report", "run", "--data", "digits:test:20"), "run: ", "--data")


def without(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return {k: without(v, key) for k, v in value.items() if k != key}
    return [without(v, key) for v in value] if isinstance(value, list) else value


def test_what_is_left_counts_what_this_run_did(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(meter.time, "monotonic", lambda: now[0])
    clock = meter._Clock()
    assert clock.left(Progress("attacks", 0.5, 0.5)) == ""
    now[0] = 60.0
    assert clock.left(Progress("attacks", 0.6, 0.5)) == "about 4 minutes left"
    assert clock.left(Progress("attacks", 0.6, 0.6)) == ""  # nothing of it is this run's
    assert clock.left(Progress("gates", 0.1)) == ""  # another thing has another pace


@pytest.fixture(scope="module")
def helps() -> dict[str, str]:
    """What every command says of itself in a terminal of 80 columns."""
    names = [[], *([name] for name in program.COMMANDS), ["data", "list"], ["zoo", "show"]]
    code = (
        "import sys, json\nfrom spikemorph.cli.program import main\n"
        f"for words in {names!r}:\n"
        "    print('@' + ' '.join(words))\n    sys.argv[1:] = [*words, '-h']\n    main()\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1"},
    )  # fmt: skip
    parts = re.split(r"^@(.*)\n", found.stdout, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_help_breaks_no_word(helps: dict[str, str]) -> None:
    """Every word of an option's help stands whole on one line."""
    assert len(helps) == len(program.COMMANDS) + 3
    group: Any = typer.main.get_command(program.program)
    for name in program.COMMANDS:
        command = program._loaded(name)
        for parameter in getattr(command, "params", []):
            text = f"{parameter.help or ''} {' '.join(parameter.opts)} {parameter.metavar or ''}"
            for word in text.split():
                assert word.strip(".,;:") in helps[name], f"{name} {parameter.name}: {word}"
    assert set(group.commands) == set(program.COMMANDS)
    for name, text in helps.items():
        assert max(map(len, text.splitlines())) <= 80, name
