"""Blocks on disk: any number of processes, killed at any time, give what one process gives."""

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.robust import Draws, GradientPath, Target, Threat
from spikemorph.robust.attacks.fgsm import Fgsm
from spikemorph.robust.attacks.pgd import Pgd
from spikemorph.robust.cascade.block_files import evaluate_blocks, merge_blocks, missing_blocks
from spikemorph.robust.cascade.blocks import Evaluation
from spikemorph.robust.cascade.outcome import MemberOutcome, WorstCase
from spikemorph.robust.cascade.worst_case import worst_case
from spikemorph.train.processes import Processes

THREAT = Threat("linf", 0.05)
ATTACKS = (Pgd(THREAT, 4), Fgsm(THREAT))


def small_evaluation() -> Evaluation:
    """23 samples in blocks of 5; a linear network."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(9, 3, generator=generator)
    x = torch.rand(23, 1, 3, 3, generator=generator)

    def logits(images: Tensor) -> Tensor:
        return (images.flatten(1) - 0.5) @ weight

    y = logits(x).argmax(1)
    y[::6] = (y[::6] + 1) % 3
    target = Target("linear", logits, (GradientPath("itself", logits),))
    return Evaluation(target, "linear, seed 0", ATTACKS, x, y, block=5)


def content(found: WorstCase) -> tuple[object, ...]:
    """Everything but seconds."""
    tensors = (found.clean, found.worst, found.broken_by, found.adversarial)
    members = tuple(replace(member, seconds=0.0) for member in found.members)
    return (found.threat, members, *(tensor.tolist() for tensor in tensors))


def whole() -> WorstCase:
    """In memory, without blocks on disk."""
    given = small_evaluation()
    draws = Draws.of(given.seed, torch.arange(23))
    return worst_case(given.target, given.attacks, given.x, given.y, draws, block=5)


@pytest.mark.parametrize("world", [1, 3, 7])
def test_processes_merge_to_what_one_process_finds(tmp_path: Path, world: int) -> None:
    done = [
        evaluate_blocks(small_evaluation(), tmp_path, Processes(rank, world))
        for rank in range(world)
    ]
    assert sorted(sum(done, ())) == list(range(5))
    assert done[0] == tuple(range(0, 5, world))
    merged = merge_blocks(small_evaluation(), tmp_path)
    assert content(merged) == content(whole())
    assert 0 < int(merged.worst.sum()) < int(merged.clean.sum()) < 23


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    evaluation, seen = small_evaluation(), []

    def killed(done: float) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_blocks(evaluation, tmp_path, watch=killed)
    assert missing_blocks(evaluation, tmp_path) == (3, 4)
    (tmp_path / evaluation.key / "block-00001.safetensors").unlink()
    with pytest.raises(InputError, match=r"3 of 5 blocks are missing \(1, 3, 4\)"):
        merge_blocks(evaluation, tmp_path)
    again = evaluate_blocks(evaluation, tmp_path, watch=seen.append)
    assert again == (1, 3, 4)
    pgd, fgsm = 4, 1  # steps; the first and the third block were there
    share = pgd / (pgd + fgsm)
    assert seen == [1, 1 + share, 2, 3, 3 + share, 4, 4 + share, 5]
    assert content(merge_blocks(evaluation, tmp_path)) == content(whole())
    assert evaluate_blocks(evaluation, tmp_path) == ()


def test_nothing_but_blocks_and_the_identity_is_left(tmp_path: Path) -> None:
    evaluate_blocks(small_evaluation(), tmp_path)
    names = sorted(path.name for path in (tmp_path / small_evaluation().key).iterdir())
    assert names == [*(f"block-0000{k}.safetensors" for k in range(5)), "identity.json"]


@pytest.mark.parametrize(
    "change",
    [
        {"network": "linear, seed 1"},
        {"attacks": (Pgd(THREAT, 5), Fgsm(THREAT))},
        {"attacks": (Pgd(THREAT, 4, loss="cw"), Fgsm(THREAT))},
        {"attacks": ATTACKS[::-1]},
        {"attacks": (Pgd(Threat("linf", 0.06), 4), Fgsm(Threat("linf", 0.06)))},
        {"seed": 1},
        {"indices": torch.arange(1, 24)},
        {"block": 6},
        {"only_survivors": False},
        {"x": small_evaluation().x * 0.99},
        {"y": (small_evaluation().y + 1) % 3},
    ],
    ids=lambda change: "-".join(change),
)
def test_whatever_changes_the_result_has_a_folder_of_its_own(change: dict[str, object]) -> None:
    given = small_evaluation()
    assert replace(given, **change).key != given.key
    assert replace(given).key == given.key


def test_a_damaged_or_foreign_block_is_refused_by_name(tmp_path: Path) -> None:
    given, other = small_evaluation(), replace(small_evaluation(), seed=1)
    for evaluation in (given, other):
        evaluate_blocks(evaluation, tmp_path)
    block = tmp_path / given.key / "block-00002.safetensors"
    block.write_bytes((tmp_path / other.key / block.name).read_bytes())
    with pytest.raises(InputError, match=r"block-00002.*not block 2 .*evaluation.*delete it"):
        merge_blocks(given, tmp_path)
    block.write_bytes(block.read_bytes()[:-5])
    with pytest.raises(InputError, match=r"block-00002.*delete it"):
        merge_blocks(given, tmp_path)
    block.unlink()
    evaluate_blocks(given, tmp_path)
    assert content(merge_blocks(given, tmp_path)) == content(whole())


def test_settings_without_a_name_are_refused(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Odd(Fgsm):
        way: Tensor | None = None

    evaluation = replace(small_evaluation(), attacks=(Odd(THREAT, way=torch.zeros(1)),))
    with pytest.raises(InputError, match="fgsm: a setting is a Tensor"):
        evaluate_blocks(evaluation, tmp_path)


def test_blocks_of_a_network_without_identity_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="linear: nothing identifies the network"):
        evaluate_blocks(replace(small_evaluation(), network=""), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_images_outside_the_range_are_refused_by_their_own_number() -> None:
    x = small_evaluation().x.clone()
    x[17] = 200
    with pytest.raises(InputError, match="sample 17"):
        replace(small_evaluation(), x=x)


def test_processes_are_read_from_the_environment() -> None:
    assert Processes.from_environment({}) == Processes(0, 1)
    assert Processes.from_environment({"RANK": "2", "WORLD_SIZE": "4"}) == Processes(2, 4)
    for names in ({"RANK": "1"}, {"WORLD_SIZE": "2"}, {"RANK": "x", "WORLD_SIZE": "2"}):
        with pytest.raises(InputError, match="RANK"):
            Processes.from_environment(names)
    with pytest.raises(InputError, match="process 4 of 4"):
        Processes(4, 4)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file.*cannot be made"):
        evaluate_blocks(small_evaluation(), tmp_path / "file")


def test_members_are_stored_whole(tmp_path: Path) -> None:
    evaluate_blocks(small_evaluation(), tmp_path)
    members = merge_blocks(small_evaluation(), tmp_path).members
    assert [m.name for m in members] == ["pgd/itself", "fgsm/itself"]
    assert all(isinstance(m, MemberOutcome) and m.seconds > 0 and m.gradients > 0 for m in members)


SCRIPT = """
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("shards", {test!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
processes = module.Processes.from_environment()
done = module.evaluate_blocks(module.small_evaluation(), pathlib.Path({folder!r}), processes)
pathlib.Path({folder!r}, f"rank{{processes.rank}}").write_text(repr(done))
"""


@pytest.mark.slow
def test_torchrun_with_two_processes_merges_to_the_same(tmp_path: Path) -> None:
    script, folder = tmp_path / "run.py", tmp_path / "blocks"
    script.write_text(SCRIPT.format(test=__file__, folder=str(folder)))
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    subprocess.run([sys.executable, *command], check=True, timeout=300)
    assert (folder / "rank0").read_text() == "(0, 2, 4)"
    assert (folder / "rank1").read_text() == "(1, 3)"
    assert content(merge_blocks(small_evaluation(), folder)) == content(whole())
