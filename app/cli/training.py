"""Options that all commands that train have."""

from pathlib import Path
from typing import Annotated

import typer

from ..choices import by_name
from .options import whole_seed

_TRAINING, _ATTACKER, _DATA = "Training", "Training under attack", "Data to train on"

Epochs = Annotated[
    int, typer.Option(help="Of training, all phases together.", rich_help_panel=_TRAINING)
]
Batch = Annotated[int, typer.Option(help="Samples a step.", rich_help_panel=_TRAINING)]
Rate = Annotated[float, typer.Option(help="Highest learning rate.", rich_help_panel=_TRAINING)]
Decay = Annotated[float, typer.Option(help="Weight decay.", rich_help_panel=_TRAINING)]
Clip = Annotated[
    float,
    typer.Option(help="Largest norm of all gradients together; 0: any.", rich_help_panel=_TRAINING),
]
TemporalSparsity = Annotated[
    float,
    typer.Option(
        help="Price of changes of recurrent states between elements; 0: none.",
        rich_help_panel=_TRAINING,
    ),
]
Smoothing = Annotated[float, typer.Option(help="Label smoothing.", rich_help_panel=_TRAINING)]
Distil = Annotated[
    float,
    typer.Option(help="Share of the loss that a teacher has, 0 to 1.", rich_help_panel=_TRAINING),
]
Teacher = Annotated[
    str | None,
    typer.Option(help="Who teaches; default: the model as it is given.", rich_help_panel=_TRAINING),
]
Average = Annotated[
    str, typer.Option(help="Weights to end with: none, swa, ema.", rich_help_panel=_TRAINING)
]
Precision = Annotated[str, typer.Option(help="32-true or bf16-mixed", rich_help_panel=_TRAINING)]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        help="To resume from when stopped; removed at the end.", rich_help_panel=_TRAINING
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        help="Of training and of what a method draws.",
        callback=whole_seed,
        rich_help_panel=_TRAINING,
    ),
]

Objective = Annotated[
    str, typer.Option(help=", ".join(by_name.OBJECTIVES), rich_help_panel=_ATTACKER)
]
Eps = Annotated[
    str,
    typer.Option(
        help="How far the attacker in training may change a pixel: 8/255.",
        rich_help_panel=_ATTACKER,
    ),
]
AttackSteps = Annotated[
    int,
    typer.Option(help="Of the attacker; 0: the objective's own.", min=0, rich_help_panel=_ATTACKER),
]
Ramp = Annotated[
    float,
    typer.Option(
        help="Share of the run over which boxes grow to eps (ibp, sabr).",
        min=0, max=1, rich_help_panel=_ATTACKER,
    ),
]  # fmt: skip
Beta = Annotated[
    float,
    typer.Option(
        help="Price of robustness; of ibp the clean share, of sabr the width of boxes; 0: its own.",
        min=0,
        rich_help_panel=_ATTACKER,
    ),
]
Select = Annotated[
    bool,
    typer.Option(
        help="End with the epoch most robust on the held-out samples.", rich_help_panel=_ATTACKER
    ),
]

HeldOut = Annotated[int, typer.Option(help="Samples kept for validation.", rich_help_panel=_DATA)]
Shift = Annotated[
    int,
    typer.Option(help="Vary images: move by up to so many pixels.", rich_help_panel=_DATA),
]
Flip = Annotated[bool, typer.Option(help="Vary images: mirror them.", rich_help_panel=_DATA)]
ExtraData = Annotated[
    str | None,
    typer.Option(
        "--extra", help="More data: a share of every batch comes from it.", rich_help_panel=_DATA
    ),
]
ExtraShare = Annotated[
    float, typer.Option(help="That share, between 0 and 1.", rich_help_panel=_DATA)
]
Labeller = Annotated[
    str | None,
    typer.Option(
        help="The network that gives extra data labels, if it has none.", rich_help_panel=_DATA
    ),
]
