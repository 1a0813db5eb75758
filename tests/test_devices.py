"""Where things run: networks go to the device, what attacks draw and keep stays, and is refused where
there is none."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from spikemorph.choices.settings import TimeChoice
from spikemorph.cli import main
from spikemorph.graph.grid import Interval
from spikemorph.recipes.recipe import recipe_of
from spikemorph.recipes.stages import bench as stage_bench
from spikemorph.recipes.stages.bench import Bench
from spikemorph.recipes.stages.order import check
from spikemorph.robust import GradientPath, Target
from spikemorph.sources.models import load_graph
from spikemorph.sources.subjects import CPU, in_unit_range, on_device, open_file, open_float
from spikemorph.surrogate.trained_file import save_trained
from spikemorph.training import through_time
from spikemorph.zoo import load_data

META = torch.device("meta")  # holds shapes alone, so all that runs there is seen
X = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run a command in this process; its exit status."""
    monkeypatch.setattr("sys.argv", ["spikemorph", *map(str, words)])
    return main()


def test_samples_go_to_the_device_by_every_path_and_logits_come_back() -> None:
    seen: list[str] = []

    def logits(x: Tensor) -> Tensor:
        seen.append(x.device.type)
        return torch.zeros(len(x), 3)

    paths = (GradientPath("one", logits), GradientPath("two", logits, exact=False))
    target = Target("t", logits, paths, lambda x, which: logits(x) + which[:, None])
    moved = on_device(target, META)
    which = torch.tensor([0, 1, 1, 0])
    assert moved.mixed is not None
    for found in (moved.logits(X), *(path.logits(X) for path in moved.paths)):
        assert found.device == CPU
    assert moved.mixed(X, which)[:, 0].tolist() == [0, 1, 1, 0]
    assert seen == ["meta"] * 4
    assert [(p.name, p.exact) for p in moved.paths] == [("one", True), ("two", False)]
    assert on_device(target, CPU) is target


def test_the_range_is_changed_before_the_network_and_nothing_after_it() -> None:
    target = Target("t", lambda x: x.flatten(1), (), lambda x, which: x.flatten(1))
    wide = in_unit_range(target, Interval.of(-1.0, 3.0))
    assert wide.mixed is not None
    x = torch.tensor([[0.0, 0.5, 1.0]])
    assert wide.logits(x).tolist() == wide.mixed(x, x).tolist() == [[-1.0, 1.0, 3.0]]


def test_a_float_network_lies_where_its_samples_go() -> None:
    graph = load_graph("zoo:digits_mlp").graph
    opened = open_float("mlp", graph, device=META)
    with pytest.raises(NotImplementedError, match="meta"):  # it ran there: no values come back
        opened.target.logits(X)
    assert open_float("mlp", graph).target.logits(X).shape == (4, 10)


def test_a_network_through_time_lies_where_its_samples_go(tmp_path: Path) -> None:
    choice = TimeChoice(steps=2, calibration_steps=2)
    module = through_time.started(load_graph("zoo:digits_mlp").graph, choice, X)
    save_trained(tmp_path / "timed.safetensors", module, {})
    assert open_file(tmp_path / "timed.safetensors").target.logits(X).shape == (4, 10)
    away = open_file(tmp_path / "timed.safetensors", META)
    with pytest.raises(NotImplementedError, match="meta"):
        away.target.logits(X)


def test_every_training_of_a_recipe_is_on_its_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    network = {"name": "a", "method": "train", "road": "through-time"}
    data = {"train": "digits:train:200", "test": "digits:test:40"}
    plain = {"name": "r", "model": "zoo:digits_mlp", "data": data, "network": [network]}
    recipe, model = recipe_of(plain, "r.toml"), load_graph("zoo:digits_mlp")
    samples = load_data(data["train"]), load_data(data["test"])
    bench = Bench(recipe, recipe.network[0], model, *samples, tmp_path, None, lambda line: None)
    heard: list[object] = []
    own = stage_bench.lesson_of

    def listening(*given: object, device: torch.device, **rest: object) -> object:
        heard.append(device)
        return own(*given, **rest)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(stage_bench, "lesson_of", listening)
    check(replace(bench, device=META))  # of pruning, and of fine-tuning
    assert heard == [META, META]


NOWHERE = ["meta", "nowhere", *([] if torch.cuda.is_available() else ["cuda"])]


@pytest.mark.parametrize("name", NOWHERE)
@pytest.mark.parametrize("command", ["run", "attack", "finetune"])
def test_a_device_that_is_not_there_is_refused_in_one_line(
    command: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = Path(__file__).parents[1] / "recipes" / "sparse-digits.toml"
    words: dict[str, list[object]] = {
        "run": [recipe, "--out", tmp_path / "run"],
        "attack": ["zoo:digits_mlp", "--data", "digits:test:20", "--eps", "8/255"],
        "finetune": [
            "zoo:digits_mlp", "--data", "digits:train:200", "--out", tmp_path / "out.safetensors",
        ],
    }  # fmt: skip
    assert call(monkeypatch, command, *words[command], "--device", name) == 2
    said = capsys.readouterr().err.strip()
    assert f"--device {name}: not available" in said
    assert "use cpu" in said
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("road", ["float", "quantisation-aware", "through-time"])
def test_what_is_trained_and_attacked_on_a_gpu_is_stored_for_all(
    road: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.safetensors"
    words = ["--objective", "fast", "--eps", "8/255", "--epochs", "1", "--road", road]
    few = ["--data", "digits:train:200", "--out", out, "--device", "cuda"]
    assert call(monkeypatch, "finetune", "zoo:digits_cnn", *few, *words) == 0
    attack = ["--data", "digits:test:20", "--eps", "8/255", "--gates", "10"]
    for device in ("cuda", "cpu"):
        assert call(monkeypatch, "attack", out, *attack, "--device", device) == 0
