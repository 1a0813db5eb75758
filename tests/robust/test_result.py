"""An evaluation keeps its promises: worst cases per sample, honest counts, plain JSON."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.robust import Attack, Draws, GradientPath, Target, Threat
from spikemorph.robust.attacks.fgsm import Fgsm
from spikemorph.robust.attacks.pgd import Pgd
from spikemorph.robust.attacks.random_noise import Noise
from spikemorph.robust.cascade.outcome import MemberOutcome, WorstCase
from spikemorph.robust.evaluate import EvaluationSettings, evaluate_robustness, in_folder, in_turn
from spikemorph.robust.gates.context import GateSettings, Samples
from spikemorph.robust.gates.gate import gates
from spikemorph.robust.result import RobustnessResult, Share, Subject

N, CLASSES = 24, 3
EPS = (0.05, 0.1, 0.2)
GATES = GateSettings(
    samples=12, steps=5, sweep_steps=5, convergence=(5, 10), restarts=(1, 2), queries=20, noise=20
)
SUBJECT = Subject("toy", "made:24", "ann", weights=48, nonzero=40, network="toy-1")
KEYS = {
    *("model", "data", "n", "kind", "steps", "classes", "norm", "trained_eps", "seed", "sparsity"),
    *(
        "clean",
        "eps",
        "curves",
        "paths",
        "gates",
        "examples",
        "corruptions",
        "per_sample",
        "reproduce",
    ),
}
MEMBER_KEYS = {
    *("name", "path", "loss", "steps", "step_size", "restarts", "robust", "attacked", "broken"),
    *("cumulative", "alone", "queries", "zero_gradient_fraction", "seconds"),
}


def network(x: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    hidden = torch.relu((x - 0.5).flatten(1) @ torch.randn(16, 12, generator=generator))
    logits: Tensor = hidden @ torch.randn(12, CLASSES, generator=generator)
    return logits


TARGET = Target("toy", network, (GradientPath("own", network),))


@pytest.fixture(scope="module")
def samples() -> Samples:
    """Labels as the network sees them, but every sixth is wrong; indices fall, from 99."""
    x = Draws.of(3, torch.arange(N)).uniform(1, 4, 4)
    y = network(x).argmax(1)
    y[::6] = (y[::6] + 1) % CLASSES
    return Samples(x, y, torch.arange(99, 99 - N, -1))


def attacks_for(threat: Threat) -> list[Attack]:
    return [Noise(threat, 3), Fgsm(threat), Pgd(threat, 5, loss="cw")]


def evaluation(samples: Samples, **changes: object) -> RobustnessResult:
    settings = replace(EvaluationSettings(EPS, gates=GATES), **changes)
    return evaluate_robustness(TARGET, attacks_for, samples, settings, SUBJECT)


@pytest.fixture(scope="module")
def result(samples: Samples) -> RobustnessResult:
    return evaluation(samples)


def test_result_is_plain_json_of_the_agreed_shape(result: RobustnessResult) -> None:
    plain = result.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert set(plain) == KEYS
    assert plain["sparsity"] == {"weights": 48, "nonzero": 40}
    assert (plain["n"], plain["classes"], plain["norm"]) == (N, CLASSES, "linf")
    for row in plain["eps"]:
        assert set(row) >= {"eps", "attacks", "worst_case", "ci95", "correct", "n"}
        assert all(set(member) >= MEMBER_KEYS for member in row["attacks"])
    assert [gate["name"] for gate in plain["gates"]] == list(gates)


def test_clean_accuracy_counts_what_is_right(result: RobustnessResult) -> None:
    clean = result.to_dict()["clean"]
    assert (clean["correct"], clean["n"]) == (20, 24)
    assert clean["accuracy"] == pytest.approx(100 * 20 / 24)
    assert clean["low"] < clean["accuracy"] < clean["high"]


def test_worst_case_is_below_every_member_and_falls_with_eps(result: RobustnessResult) -> None:
    plain = result.to_dict()
    before = plain["per_sample"]["clean"]
    for row in plain["eps"]:
        now = plain["per_sample"]["worst"][f"{row['eps']:.10g}"]
        assert all(a >= b for a, b in zip(before, now, strict=True))
        assert sum(now) == row["correct"]
        assert row["worst_case"] == pytest.approx(100 * sum(now) / N)
        assert row["ci95"][0] <= row["worst_case"] <= row["ci95"][1]
        left = [member["cumulative"] for member in row["attacks"]]
        assert left == sorted(left, reverse=True)
        assert row["worst_case"] <= left[-1]
        before = now
    assert 0 < plain["eps"][0]["correct"] < plain["clean"]["correct"]


def test_accuracy_alone_is_known_of_members_that_met_all(result: RobustnessResult) -> None:
    for row in result.to_dict()["eps"]:
        for member in row["attacks"]:
            whole = member["attacked"] == 20
            assert (member["alone"] is not None) == whole
            if whole:
                assert member["alone"] == pytest.approx(100 * (20 - member["broken"]) / N)
        assert row["attacks"][0]["alone"] is not None


def test_sample_broken_at_a_smaller_eps_stays_broken() -> None:
    """An attack that only finds an image at the smaller eps."""
    one = MemberOutcome("pgd", "own", "ce", 5, 0.1, 1, 3, 1, 0.0, 0.0, 15, 0.1)

    def outcome(eps: float, worst: list[bool]) -> WorstCase:
        right = torch.tensor(worst)
        by = torch.where(right, -1, 0)
        return WorstCase(
            Threat("linf", eps), torch.ones(3) > 0, right, by, torch.zeros(3, 1), (one,)
        )

    rows = in_turn([outcome(0.1, [False, True, True]), outcome(0.2, [True, True, False])])
    assert rows[0].standing.tolist() == [False, True, True]
    assert rows[1].standing.tolist() == [False, True, False]
    assert rows[1].worst == Share(1, 3)
    assert rows[1].to_dict()["carried"] == 1


def test_examples_are_broken_samples_with_the_smallest_indices(
    result: RobustnessResult, samples: Samples
) -> None:
    fallen = samples.indices[result.clean & ~result.eps[-1].standing].sort().values[:8]
    assert [example.index for example in result.examples] == fallen.tolist()
    for example in result.examples:
        at = 99 - example.index
        row = next(row for row in result.eps if row.outcome.threat.eps == example.eps)
        assert not row.standing[at]
        assert (example.shape, len(example.clean)) == ((1, 4, 4), 16)
        assert example.label == example.clean_class == int(samples.y[at])
        assert example.adversarial_class != example.label
        pairs = zip(example.clean, example.adversarial, strict=True)
        assert max(abs(a - b) for a, b in pairs) <= 255 * example.eps + 1


def test_curves_start_at_clean_accuracy_and_end_at_the_worst_case(result: RobustnessResult) -> None:
    curves = result.to_dict()["curves"]
    lines = curves["accuracy_vs_eps"]
    assert set(lines) == {"worst case", "noise", "fgsm", "pgd-cw", "pgd (gates)"}
    clean = 100 * 20 / 24
    for name in ("worst case", "noise", "fgsm", "pgd-cw"):
        assert lines[name][0] == [0.0, pytest.approx(clean)]
        assert [point[0] for point in lines[name][1:]] == list(EPS)
    assert lines["worst case"][-1][1] == result.eps[-1].worst.accuracy
    eps = [point[0] for point in lines["pgd (gates)"]]
    assert eps == sorted(eps) and eps[0] == 0 and eps[-1] == 1
    assert [point[0] for point in curves["accuracy_vs_steps"]["pgd"]] == [5, 10]
    loss = [point[1] for point in curves["loss_vs_steps"]["pgd"]]
    assert all(value > 0 for value in loss)


def test_paths_are_in_the_targets_order_with_their_cosine(samples: Samples) -> None:
    """The second path turns the gradient around: cosine -1; the third has none."""
    back = GradientPath("back", lambda x: network(2 * x.detach() - x))
    none = GradientPath("none", lambda x: network(x.detach()))
    target = replace(TARGET, paths=(*TARGET.paths, back, none))
    settings = EvaluationSettings((0.1,), gates=replace(GATES, only=("gradients",)))
    found = evaluate_robustness(target, attacks_for, samples, settings, SUBJECT)
    own, turned, empty = found.to_dict()["paths"]
    assert [own["name"], turned["name"], empty["name"]] == ["own", "back", "none"]
    assert own["cosine"] == pytest.approx(1, abs=1e-5)
    assert turned["cosine"] == pytest.approx(-1, abs=1e-5)
    assert (empty["cosine"], empty["zero_gradient_fraction"]) == (None, 1.0)
    assert own["robust"] < turned["robust"]
    assert found.curves.accuracy_vs_steps == {}
    assert found.red_flags == ()


def test_network_without_paths_is_attacked_without_gradients(samples: Samples) -> None:
    target = replace(TARGET, paths=())
    settings = EvaluationSettings((0.1,), gates=GATES)
    found = evaluate_robustness(target, attacks_for, samples, settings, SUBJECT)
    assert [member.attack for member in found.eps[0].outcome.members] == ["noise"]
    assert [gate.name for gate in found.red_flags] == ["gradients"]
    with pytest.raises(InputError, match="no gradient path"):
        evaluate_robustness(target, lambda threat: [Fgsm(threat)], samples, settings, SUBJECT)


def test_folder_gives_the_same_as_memory(
    samples: Samples, result: RobustnessResult, tmp_path: Path
) -> None:
    settings = EvaluationSettings(EPS, gates=None)
    for _ in range(2):  # the second run reads what the first one wrote
        found = evaluate_robustness(
            TARGET, attacks_for, samples, settings, SUBJECT, measure=in_folder(tmp_path)
        )
        assert found.to_dict()["per_sample"] == result.to_dict()["per_sample"]
        assert found.examples == result.examples
    assert found.gates == ()


def test_evaluation_repeats(samples: Samples, result: RobustnessResult) -> None:
    again = evaluation(samples).to_dict()
    assert again["gates"] == result.to_dict()["gates"]
    assert again["curves"] == result.to_dict()["curves"]
    assert evaluation(samples, seed=1, gates=None).to_dict()["seed"] == 1


@pytest.mark.parametrize("eps", [(), (0.2, 0.1), (0.1, 0.1)])
def test_eps_must_grow(eps: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="eps"):
        EvaluationSettings(eps)
