"""Gates pass where the truth is known, and trip on networks that hide their gradient."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.robust import Draws, GradientPath, Target, Threat
from spikemorph.robust.attacks.pgd import Pgd
from spikemorph.robust.attacks.random_noise import Noise
from spikemorph.robust.attacks.refine import Refine
from spikemorph.robust.attacks.square import Square
from spikemorph.robust.cascade.outcome import WorstCase
from spikemorph.robust.cascade.worst_case import worst_case
from spikemorph.robust.gates.context import (
    Attacked,
    Companions,
    GateContext,
    GateSettings,
    Samples,
    clear,
)
from spikemorph.robust.gates.gate import Gate, gates
from spikemorph.robust.gates.network import rounded
from spikemorph.robust.gates.run import run_gates

THREAT = Threat("linf", 0.15)
CLASSES, N = 4, 40
QUICK = GateSettings(
    samples=N,
    steps=10,
    sweep_steps=10,
    convergence=(5, 10, 20),
    restarts=(1, 2),
    queries=300,
    noise=40,
    directions=16,
)
Model = Callable[[Tensor], Tensor]


def prototypes() -> Tensor:
    """(class, 1, 8, 8) of 1/4 and 3/4; the last row, all 1/2, tells nothing about the class."""
    coins = torch.rand(CLASSES, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    values = torch.where(coins < 0.5, 0.25, 0.75)
    values[:, :, 7] = 0.5
    return values


def linear(x: Tensor) -> Tensor:
    """The nearest prototype p: z_k = p_k x - p_k p_k / 2. It is as robust as images are clear."""
    p = prototypes().flatten(1)
    return x.flatten(1) @ p.T - p.square().sum(1) / 2


def fragile(x: Tensor) -> Tensor:
    """Reads a code of height 0.02 in the last row: right on every sample, and not robust at all."""
    return 50 * x[:, 0, 7, :CLASSES]


@pytest.fixture(scope="module")
def samples() -> Samples:
    """Prototypes mixed with another one by up to 0.45, noise, and the code of the class."""
    draws = Draws.of(1, torch.arange(N))
    y = torch.arange(N) % CLASSES
    other = (y + 1 + draws.below(CLASSES - 1, 1)[:, 0]) % CLASSES
    share = 0.45 * draws.fork("share").uniform(1, 1, 1)
    p = prototypes()
    x = (1 - share) * p[y] + share * p[other] + 0.1 * draws.fork("noise").uniform(1, 8, 8) - 0.05
    x[:, :, 7] = 0.5
    x[torch.arange(N), 0, 7, y] += 0.02
    return Samples(x, y, torch.arange(100, 100 + N))


def blurred(x: Tensor) -> Tensor:
    """The linear network; its gradient passes through a mean of neighbours."""
    smooth = torch.nn.functional.avg_pool2d(x, 3, 1, 1)
    return linear(x.detach() + smooth - smooth.detach())


HONEST = Target("linear", linear, (GradientPath("own", linear), GradientPath("blur", blurred)))
TWIN = Target("fragile", fragile, (GradientPath("own", fragile),))


class _Rect(torch.autograd.Function):
    """1[u >= 0], with the gradient 1[|u| < width / 2] / width."""

    @staticmethod
    def forward(ctx: "torch.autograd.function.FunctionCtx", u: Tensor, width: float) -> Tensor:
        ctx.save_for_backward((u.abs() < width / 2) / width)
        return (u >= 0).to(u)

    @staticmethod
    def backward(ctx: "torch.autograd.function.FunctionCtx", *upper: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return upper[0] * slope, None


def spiking(samples: Samples) -> Callable[[Tensor, float], Tensor]:
    """96 random step neurons with a ridge read-out; the width is only its gradient's."""
    generator = torch.Generator().manual_seed(2)
    weights = torch.randn(64, 96, generator=generator)

    def hidden(x: Tensor, width: float) -> Tensor:
        found: Tensor = _Rect.apply((x - 0.5).flatten(1) @ weights, width)
        return found

    wanted = 2 * torch.nn.functional.one_hot(samples.y, CLASSES) - 1.0
    shaken = samples.x + 0.02 * torch.randn(20, *samples.x.shape, generator=generator)
    features = hidden(shaken.flatten(0, 1), 1)
    square = features.T @ features + torch.eye(96)
    out = torch.linalg.solve(square, features.T @ wanted.repeat(20, 1))
    return lambda x, width: hidden(x, width) @ out


def judged(context: GateContext, *names: str) -> dict[str, Gate]:
    """The named gates of a context."""
    return {name: gates[name](context) for name in names}


def spread(standing: list[bool]) -> Attacked:
    return Attacked(torch.tensor(standing), torch.zeros(len(standing), 1))


def evaluated(target: Target, samples: Samples, threat: Threat = THREAT) -> WorstCase:
    attacks = [Pgd(threat, 10), Pgd(threat, 10, loss="cw"), Square(threat, 50)]
    return worst_case(target, attacks, samples.x, samples.y, Draws.of(0, samples.indices))


@pytest.fixture(scope="module")
def honest(samples: Samples) -> tuple[Gate, ...]:
    companions = Companions(TWIN, (TWIN,), other_steps=(HONEST,), trained="own")
    worst = (evaluated(HONEST, samples),)
    return run_gates(GateContext(HONEST, samples, THREAT, 0, QUICK, companions, worst))


@pytest.mark.parametrize("name", gates)
def test_honest_network_passes_every_gate(honest: tuple[Gate, ...], name: str) -> None:
    (gate,) = (gate for gate in honest if gate.name == name)
    assert gate.passed is True, gate.detail
    assert gate.title and gate.why and gate.detail


def test_attacks_of_gates_agree_with_the_exact_answer(samples: Samples) -> None:
    """z_k - z_y is linear, so its largest value over the clipped cube is at a known corner."""
    p = prototypes()
    robust = torch.ones(N, dtype=torch.bool)
    for k in range(CLASSES):
        corner = THREAT.project(samples.x + THREAT.eps * (p[k] - p[samples.y]).sign(), samples.x)
        z = linear(corner)
        robust &= z[:, k] <= z.gather(1, samples.y[:, None])[:, 0]
    found = GateContext(HONEST, samples, THREAT, 0, QUICK).white_box
    assert 0 < int(robust.sum()) < N
    assert torch.equal(found, robust)


MASKED = ("gradients", "numeric", "half-range", "unbounded", "square")


@pytest.mark.parametrize("width, passed", [(0.01, False), (8.0, True)])
def test_narrow_rectangles_trip_gates_that_wide_ones_pass(
    samples: Samples, width: float, passed: bool
) -> None:
    """The same network, bit for bit: only the gradient that attackers are offered differs."""
    model = partial(spiking(samples), width=width)
    target = Target("steps", model, (GradientPath(f"rect {width:g}", model),))
    settings = replace(QUICK, steps=40)
    context = GateContext(target, samples, THREAT, 0, settings)
    assert int(context.clean.sum()) >= 0.9 * N
    found = judged(context, *MASKED)
    assert {name: gate.passed for name, gate in found.items()} == dict.fromkeys(MASKED, passed)
    for name in () if passed else ("gradients", "unbounded", "square"):
        assert found[name].exceptions and min(found[name].exceptions) >= 100


def test_saturated_network_has_no_gradient_by_any_loss(samples: Samples) -> None:
    def steep(x: Tensor) -> Tensor:
        return torch.sigmoid(1e4 * (linear(x) - linear(x).mean(1, keepdim=True)))

    target = Target("steep", steep, (GradientPath("own", steep),))
    found = judged(GateContext(target, samples, THREAT, 0, QUICK), "gradients", "unbounded")
    assert [gate.passed for gate in found.values()] == [False, False]


def test_network_without_gradients_is_said_to_have_none(samples: Samples) -> None:
    found = run_gates(GateContext(replace(HONEST, paths=()), samples, THREAT, 0, QUICK))
    flags = [gate for gate in found if gate.passed is False]
    assert [gate.name for gate in flags] == ["gradients"]
    assert "no gradient path" in flags[0].detail
    silent = {gate.name for gate in found if "no gradient path" in gate.detail}
    assert {"iterative", "monotone", "unbounded", "convergence", "square", "numeric"} <= silent


def test_random_network_trips_randomness(samples: Samples) -> None:
    generator = torch.Generator().manual_seed(0)

    def noisy(x: Tensor) -> Tensor:
        return linear(x) + 0.01 * torch.randn(len(x), CLASSES, generator=generator)

    context = GateContext(Target("noisy", noisy, ()), samples, THREAT, 0, QUICK)
    assert gates["randomness"](context).passed is False


def test_network_that_sees_its_batch_trips_state_only(samples: Samples) -> None:
    def normed(x: Tensor) -> Tensor:
        return linear(x - x.mean(0, keepdim=True) + 0.5)

    context = GateContext(Target("normed", normed, ()), samples, THREAT, 0, QUICK)
    found = judged(context, "randomness", "state")
    assert (found["randomness"].passed, found["state"].passed) == (True, False)


def test_network_that_keeps_state_trips_state(samples: Samples) -> None:
    left = [torch.zeros(CLASSES)]

    def leaky(x: Tensor) -> Tensor:
        logits = linear(x) + 0.1 * left[0]
        left[0] = logits.mean(0)
        return logits

    context = GateContext(Target("leaky", leaky, ()), samples, THREAT, 0, QUICK)
    assert gates["state"](context).passed is False


def test_probabilities_are_found_and_not_attacked(samples: Samples) -> None:
    def soft(x: Tensor) -> Tensor:
        return linear(x).softmax(1)

    target = Target("soft", soft, (GradientPath("own", soft),))
    found = {gate.name: gate for gate in run_gates(GateContext(target, samples, THREAT, 0, QUICK))}
    assert found["logits"].passed is False
    assert "probabilities" in found["logits"].detail
    assert found["unbounded"].passed is None


def test_network_that_rounds_its_inputs_trips_the_grid(samples: Samples) -> None:
    def coarse(x: Tensor) -> Tensor:
        return linear(x + (rounded(x) - x).detach())

    target = Target("coarse", coarse, (GradientPath("own", coarse),))
    gate = gates["input-grid"](GateContext(target, samples, THREAT, 0, QUICK))
    assert gate.passed is False
    assert "half an 8-bit step" in gate.detail


@pytest.mark.parametrize("bits, passed", [(8, False), (11, False), (12, True)])
def test_known_grid_needs_twelve_bits(samples: Samples, bits: int, passed: bool) -> None:
    target = replace(HONEST, input_step=1 / (2**bits - 1))
    gate = gates["input-grid"](GateContext(target, samples, THREAT, 0, QUICK))
    assert gate.passed is passed
    assert ("fewer than 12 bits" in gate.detail) is not passed


def test_grid_that_resists_trips_the_gate(samples: Samples) -> None:
    """An 8-bit version without a gradient stands better than the fine one."""
    deaf = Target("deaf", linear, (GradientPath("none", lambda x: linear(x.detach())),))
    context = GateContext(HONEST, samples, THREAT, 0, QUICK, Companions(coarse=deaf))
    gate = gates["input-grid"](context)
    assert gate.passed is False
    assert gate.exceptions


def test_twin_that_stands_trips_undefended(samples: Samples) -> None:
    context = GateContext(HONEST, samples, THREAT, 0, QUICK, Companions(undefended=HONEST))
    assert gates["undefended"](context).passed is False


def test_transfer_that_beats_gradients_trips(samples: Samples) -> None:
    """Attacked through a path that leads away from the border, from which its own source leads."""
    back = GradientPath("back", lambda x: linear(2 * x.detach() - x))
    target = Target("back", linear, (back,))
    context = GateContext(target, samples, THREAT, 0, QUICK, Companions(transfer=(HONEST,)))
    found = judged(context, "transfer", "numeric", "square", "noise", "refine")
    assert [gate.passed for gate in found.values()] == [False] * 5


def test_search_from_where_gradients_end_trips(samples: Samples) -> None:
    """The network is linear on stairs, and nothing of its gradient is left; half of the way is random."""

    def stairs(x: Tensor) -> Tensor:
        return (linear(x) * 8).round() / 8

    blind = GradientPath(
        "none", lambda x: stairs(x.detach()) + 0 * x.flatten(1).sum(1, keepdim=True)
    )
    context = GateContext(Target("stairs", stairs, (blind,)), samples, THREAT, 0, QUICK)
    found = gates["refine"](context)
    missed = len(found.exceptions)
    assert found.passed is False and missed > 2
    assert found.points == pytest.approx(100 * missed / N)
    stand = context.white_box
    assert set(found.exceptions) <= set(samples.named(stand))
    assert f"{missed} samples are broken by the latter only" in found.detail


def test_what_rounds_break_is_no_merit_of_gradients(samples: Samples) -> None:
    """Their gradients start where a search had ended."""
    found = evaluated(HONEST, samples)
    rounds = replace(found, members=tuple(replace(m, turn=1) for m in found.members))
    own, none = (GateContext(HONEST, samples, THREAT, worst=(w,)) for w in (found, rounds))
    assert not bool(own.evaluated_white_box.all())
    assert bool(none.evaluated_white_box.all())


def test_gate_says_how_many_points_are_missing(samples: Samples, honest: tuple[Gate, ...]) -> None:
    """Gates that compare accuracies say by how much; the others say nothing of the kind."""
    compare = {"square", "noise", "refine", "transfer", "time-steps"}
    assert {gate.name for gate in honest if gate.points is not None} == compare
    assert all(gate.points == 0 for gate in honest if gate.name in compare)
    assert all(gate.to_dict()["points"] == gate.points for gate in honest)


@pytest.mark.parametrize(
    "black_box", [Square(THREAT, 500), Noise(THREAT, 1000), Refine(THREAT, 500)]
)
def test_what_the_evaluation_broke_without_gradients_trips(
    samples: Samples, black_box: Square | Noise | Refine
) -> None:
    """Gates on few samples and queries see nothing of it; listed first, it would prove nothing."""
    hidden = Target("hidden", linear, (GradientPath("none", lambda x: linear(x.detach() + 0 * x)),))
    blind = [Pgd(THREAT, 2)]
    draws, few = Draws.of(0, samples.indices), replace(QUICK, queries=1, noise=1)
    order = ([*blind, black_box], [black_box, *blind])
    worst = [worst_case(hidden, names, samples.x, samples.y, draws) for names in order]
    after, first = (
        gates[black_box.name](
            GateContext(HONEST, samples.rows(torch.arange(10)), THREAT, 0, few, worst=(w,))
        )
        for w in worst
    )
    broken = worst[0].members[1].broken
    assert broken > 5 and after.points == pytest.approx(100 * broken / N)
    assert f"broke {broken} of {N} samples" in after.detail
    assert after.passed is False and set(after.exceptions) <= set(range(100, 110))
    assert first.passed is True
    weaker = replace(worst[0], threat=Threat("linf", THREAT.eps / 2))  # counts at any eps
    context = GateContext(HONEST, samples.rows(torch.arange(10)), THREAT, 0, few, worst=(weaker,))
    assert gates[black_box.name](context).passed is False


@pytest.mark.parametrize(
    "change, name, sample",
    [
        (lambda w: replace(w, adversarial=w.adversarial + 0.01), "bounds", None),
        (lambda w: replace(w, adversarial=w.adversarial * torch.nan), "bounds", None),
        (lambda w: replace(w, worst=w.worst ^ (torch.arange(N) == 3)), "per-sample", 103),
    ],
)
def test_outcomes_that_are_not_true_trip(
    samples: Samples, change: Callable[[WorstCase], WorstCase], name: str, sample: int | None
) -> None:
    worst = change(evaluated(HONEST, samples))
    gate = gates[name](GateContext(HONEST, samples, THREAT, 0, QUICK, worst=(worst,)))
    assert gate.passed is False
    assert sample is None or gate.exceptions == (sample,)


def test_one_loss_trips(samples: Samples) -> None:
    attack = [Pgd(THREAT, 5)]
    draws = Draws.of(0, samples.indices)
    worst = worst_case(HONEST, attack, samples.x, samples.y, draws)
    context = GateContext(HONEST, samples, THREAT, 0, QUICK, worst=(worst,))
    assert gates["losses"](context).passed is False


def test_unconverged_attack_trips_convergence(samples: Samples) -> None:
    """Ten of forty samples fall between 20 and 40 steps, then between 10 and 20 only."""
    few, many = spread([True] * N), spread([True] * 30 + [False] * 10)
    context = GateContext(HONEST, samples, THREAT, 0, QUICK)
    vars(context)["by_steps"] = ((10, few), (20, few), (40, many))  # as measured
    gate = gates["convergence"](context)
    assert gate.passed is False
    assert gate.exceptions == tuple(range(130, 140))
    vars(context)["by_steps"] = ((10, few), (20, many), (40, many))
    assert gates["convergence"](context).passed is True


def test_convergence_begins_where_the_evaluation_ended(samples: Samples) -> None:
    """The evaluation took 10 steps: that 20 are enough does not help it."""
    worst = (evaluated(HONEST, samples),)
    context = GateContext(HONEST, samples, THREAT, 0, QUICK, worst=worst)
    few, many = spread([True] * N), spread([True] * 30 + [False] * 10)
    vars(context)["by_steps"] = ((5, few), (10, few), (20, many), (40, many))
    assert gates["convergence"](context).passed is False


def test_accuracy_that_grows_with_eps_trips_monotone(samples: Samples) -> None:
    context = GateContext(HONEST, samples, THREAT, 0, QUICK)
    low, high = spread([False] * 3 + [True] * 37), spread([True] * N)
    vars(context)["by_eps"] = ((0.0, high), (0.1, low), (0.2, high))
    gate = gates["monotone"](context)
    assert (gate.passed, gate.exceptions) == (False, (100, 101, 102))
    vars(context)["by_eps"] = ((0.0, high), (0.1, high), (0.2, low))
    assert gates["monotone"](context).passed is True


def test_single_step_that_beats_many_trips_iterative(samples: Samples) -> None:
    context = GateContext(HONEST, samples, THREAT, 0, QUICK)
    vars(context)["by_steps"] = ((10, spread([True] * N)),)
    assert gates["iterative"](context).passed is False


def test_few_samples_need_more_than_chance() -> None:
    """One of 50 is 2 points; its interval starts at 0.35, that of two at 1.1."""
    assert [clear(count, 50, 0.5) for count in (0, 1, 2)] == [False, False, True]


def test_only_gates_that_are_asked_for_run(samples: Samples) -> None:
    settings = replace(QUICK, only=("logits",))
    found = run_gates(GateContext(HONEST, samples, THREAT, 0, settings))
    assert [gate.name for gate in found if gate.passed is not None] == ["logits"]
    assert all("not asked" in gate.detail for gate in found if gate.passed is None)
    with pytest.raises(InputError, match="gate 'logit': choose from"):
        run_gates(GateContext(HONEST, samples, THREAT, 0, replace(QUICK, only=("logit",))))


@pytest.mark.parametrize("change", [{"samples": 0}, {"steps": -1}, {"convergence": (20, 10)}])
def test_settings_that_measure_nothing_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(InputError, match="gates: "):
        replace(QUICK, **change)
