"""Options that all commands that train have."""

from pathlib import Path
from typing import Annotated

import typer

from .. import choices

Objective = Annotated[str, typer.Option(help=", ".join(choices.OBJECTIVES))]
Eps = Annotated[
    str, typer.Option(help="How far the attacker in training may change a pixel: 8/255.")
]
AttackSteps = Annotated[int, typer.Option(help="Of the attacker; 0: the objective's own.", min=0)]
Beta = Annotated[
    float, typer.Option(help="Price of robustness (trades, mart, rfgsm); 0: its own.", min=0)
]
Average = Annotated[str, typer.Option(help="Weights to end with: none, swa, ema.")]
Select = Annotated[
    bool, typer.Option(help="End with the epoch most robust on the held-out samples.")
]
Epochs = Annotated[int, typer.Option(help="Of training, all phases together.")]
Batch = Annotated[int, typer.Option(help="Samples a step.")]
Rate = Annotated[float, typer.Option(help="Highest learning rate.")]
Decay = Annotated[float, typer.Option(help="Weight decay.")]
Smoothing = Annotated[float, typer.Option(help="Label smoothing.")]
Shift = Annotated[int, typer.Option(help="Vary images: move by up to so many pixels.")]
Flip = Annotated[bool, typer.Option(help="Vary images: mirror them.")]
Distil = Annotated[float, typer.Option(help="Share of the loss that a teacher has, 0 to 1.")]
Teacher = Annotated[
    str | None, typer.Option(help="Who teaches; default: the model as it is given.")
]
HeldOut = Annotated[int, typer.Option(help="Samples kept for validation.")]
Precision = Annotated[str, typer.Option(help="32-true or bf16-mixed")]
ExtraData = Annotated[
    str | None, typer.Option("--extra", help="More data: a share of every batch comes from it.")
]
ExtraShare = Annotated[float, typer.Option(help="That share, between 0 and 1.")]
Labeller = Annotated[
    str | None, typer.Option(help="The network that gives extra data labels, if it has none.")
]
Checkpoint = Annotated[
    Path | None, typer.Option(help="To resume from when stopped; removed at the end.")
]
Seed = Annotated[
    int,
    typer.Option("--seed", help="Of training and of what a method draws.", min=0, max=2**63 - 1),
]
