"""What can be wrong with a network or with what the user gave; messages name it with a repair."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """Something that a user sets: an argument in Python, an option of a command, a key of a recipe.

    `name` is Python's; `value` what it is, or could be, None where that is left open.
    """

    name: str
    value: object = None

    def __str__(self) -> str:
        return as_argument(self)


Wording = Callable[[Setting], str]  # how a setting is called where a message is read


def as_argument(setting: Setting) -> str:
    """A setting as Python spells it.

    >>> as_argument(Setting("input_range", (0, 255)))
    'input_range=(0, 255)'
    """
    return setting.name if setting.value is None else f"{setting.name}={setting.value!r}"


@dataclass(frozen=True)
class Repair:
    """A setting that helps: data for programs, and words that have a place for it.

    >>> str(Repair("input_shape", (1, 3, 32, 32), "give {}, for example"))
    'give input_shape=(1, 3, 32, 32), for example'
    """

    setting: str
    value: object = None
    words: str = "give {}"

    def worded(self, wording: Wording) -> str:
        """The repair, with its setting as the reader would write it."""
        return self.words.replace("{}", wording(Setting(self.setting, self.value)))

    def __str__(self) -> str:
        return self.worded(as_argument)


@dataclass(frozen=True)
class Message:
    """One line: where (a file, a node, a setting; from outside in), what, and what to do."""

    what: str
    repairs: tuple[Repair, ...] = ()
    where: tuple[str | Setting, ...] = ()

    def worded(self, wording: Wording) -> str:
        """The line, with settings as its reader would write them."""
        places = (wording(w) if isinstance(w, Setting) else w for w in self.where)
        helps = ", ".join(repair.worded(wording) for repair in self.repairs)
        return ": ".join([*places, f"{self.what}; {helps}" if helps else self.what])

    def __str__(self) -> str:
        return self.worded(as_argument)


class SpikemorphError(Exception):
    """The base of every error that spikemorph raises on purpose."""

    def worded(self, wording: Wording) -> str:
        """The error, with settings as its reader would write them."""
        return str(self)


class InputError(SpikemorphError):
    """A file, a setting or data is unusable. One line: where, what, what to do.

    Parameters
    ----------
    what : str
        What is wrong, and what to do where no setting repairs it.
    repairs : Repair
        Settings that repair it.
    where : str or Setting, optional
        What it is about, if `what` does not say: a file, a node, the setting that was given.
    """

    def __init__(self, what: str, *repairs: Repair, where: str | Setting | None = None) -> None:
        super().__init__(what, *repairs)
        self.message = Message(what, repairs, () if where is None else (where,))

    @property
    def repairs(self) -> tuple[Repair, ...]:
        """The settings that repair it."""
        return self.message.repairs

    def under(self, where: str | Setting) -> "InputError":
        """The same error, of a part of something: what that is comes first."""
        outer = InputError(self.message.what, *self.repairs)
        outer.message = Message(self.message.what, self.repairs, (where, *self.message.where))
        return outer

    def worded(self, wording: Wording) -> str:
        return self.message.worded(wording)

    def __str__(self) -> str:
        return str(self.message)


class GraphError(SpikemorphError):
    """A graph that is not a network: a name used twice, a missing input, shapes that do not fit."""


@dataclass(frozen=True)
class Problem:
    """One node that cannot be taken: its name, its op, the reason, and the repair."""

    node: str
    op: str
    reason: str
    repair: str

    def __str__(self) -> str:
        return f"node {self.node!r} ({self.op}): {self.reason}; {self.repair}"


class UnsupportedError(SpikemorphError):
    """A network with parts that have no exact meaning here: all of them, never just the first.

    `taken` names the nodes that were read all the same, with their ops; `unseen` those behind a
    problem, which were not looked at and may have problems of their own.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        taken: Sequence[tuple[str, str]] = (),
        unseen: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.problems, self.taken, self.unseen = tuple(problems), tuple(taken), tuple(unseen)
        count = len(self.problems)
        head = f"{count} node{'s' if count != 1 else ''} cannot be converted"
        lines = [f"{head}:", *(f"  {problem}" for problem in self.problems)]
        if self.unseen:
            lines.append(f"  (not looked at, as they are behind: {len(self.unseen)} more)")
        super().__init__("\n".join(lines))
