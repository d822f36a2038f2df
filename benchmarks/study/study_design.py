"""The design of the study on CREMA-D: its cells, contrasts and lockbox. Committed before anything was run.

docs/study_crema_d.md says the same in words. One factor at a time is changed about a base: k = 3, no balance, no
curriculum. A cell is one way to make training targets, in one partition of the actors, with one seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

LOCKBOX = ("1009", "1019", "1029", "1031", "1039", "1049", "1059", "1069", "1079", "1089")
"""Actors that are not used to make, tune or choose anything."""
FOLDS = 5
PARTITIONS = (0, 1, 2)
SEEDS = (0, 1, 2)
STRATUM_VOTES = 4
"""Votes of a scored clip that assign its stratum; the others are scored. Clips with fewer than twice as many are not
scored."""
SMALLEST_DIFFERENCE = 0.01
"""Nats a vote: the smallest difference of interest."""
BASE_K = 3
PROXY_COUNTS = (1, 2, 3, 5, 10)
DOSES = (0.25, 0.5, 0.75, 1.0)
CURRICULA = ("filter", "weight", "reverse_filter", "reverse_weight")


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to make the targets that heads are trained on."""

    targets: str
    """plurality, human, pooled, auto, half (the mean of human and auto), or all (every vote of a clip)."""
    proxy: str = "none"
    """none, listener, audio_visual, face, or listener+audio_visual."""
    k: int = BASE_K
    """Human votes of a labelled clip."""
    proxy_votes: int = 0
    """Proxy votes that are taken of every clip; 0 = all of them."""
    damage: str = "none"
    """What replaced proxy votes become: shares (a draw from the class shares) or confusion (a fixed wrong label)."""
    dose: float = 0.0
    """The share of proxy votes that are replaced."""
    labelled: float = 1.0
    """The share of training clips that have human votes."""
    unlabelled: bool = False
    """Whether clips without human votes are trained on too, with what the listener says."""
    balance: str = "none"
    """none, dime (weights that make the classes uniform) or reference (the papers' filling up of rare classes)."""
    curriculum: str = "none"
    """none, filter, weight or their reverses."""

    @property
    def name(self) -> str:
        """A short name that is unique in the design."""
        parts = [self.targets if self.proxy == "none" else f"{self.targets}+{self.proxy}", f"k{self.k}"]
        if self.proxy_votes:
            parts.append(f"n{self.proxy_votes}")
        if self.damage != "none":
            parts.append(f"{self.damage}{self.dose:g}")
        if self.labelled < 1:
            parts.append(f"labelled{self.labelled:.2f}")
        if self.unlabelled:
            parts.append("unlabelled")
        parts += [part for part in (self.balance, self.curriculum) if part != "none"]
        return "_".join(parts)

    @property
    def source(self) -> Arm:
        """The arm whose targets these are, before they are balanced or ordered."""
        return replace(self, balance="none", curriculum="none")


PLURALITY = Arm("plurality")
HUMAN = Arm("human")
POOLED = Arm("pooled", "audio_visual")
AUTO = Arm("auto")
LISTENER = Arm("auto", "listener")
AUDIO_VISUAL = Arm("auto", "audio_visual")
FACE = Arm("auto", "face")
BOTH = Arm("auto", "listener+audio_visual")
HALF = Arm("half", "listener")
ALL = Arm("all")

PRIMARY = (
    ("soft targets instead of the plurality", HUMAN, PLURALITY),
    ("pooling proxy votes, as the paper does", POOLED, HUMAN),
    ("fusing the human votes alone", AUTO, HUMAN),
    ("a listener beside the human votes", LISTENER, AUTO),
    ("fusing the proxy votes instead of pooling them", AUDIO_VISUAL, POOLED),
)
"""The five primary contrasts: name, first arm, second arm; the score is the first one's less the second one's."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One arm in one partition with one seed: five folds."""

    arm: Arm
    partition: int
    seed: int

    @property
    def key(self) -> str:
        """The name by which a cell that is done is known again."""
        return f"{self.arm.name}__p{self.partition}_s{self.seed}"


def blocks() -> dict[str, tuple[Arm, ...]]:
    """All arms by the question that they answer, the most important first; an arm may stand in several."""
    main = (PLURALITY, HUMAN, POOLED, AUTO, LISTENER, AUDIO_VISUAL, ALL)
    some = (PLURALITY, HUMAN, POOLED, AUTO, LISTENER, AUDIO_VISUAL)
    damaged = [(damage, dose) for damage in ("shares", "confusion") for dose in DOSES]
    return {
        "targets at k = 3": (*main, FACE),
        "targets at k = 1": tuple(replace(arm, k=1) for arm in (*some, FACE)),
        "targets at k = 5": tuple(replace(arm, k=5) for arm in (*some, FACE)),
        "dose": tuple(
            replace(arm, damage=damage, dose=dose) for damage, dose in damaged for arm in (POOLED, AUDIO_VISUAL)
        ),
        "curricula": tuple(replace(arm, curriculum=kind) for arm in (HUMAN, LISTENER) for kind in CURRICULA),
        "balance": tuple(replace(arm, balance=kind) for arm in (HUMAN, LISTENER) for kind in ("dime", "reference")),
        "equal budget": tuple(
            replace(arm, k=k, labelled=share)
            for k, share in ((1, 1.0), (3, 1 / 3), (5, 1 / 5))
            for arm in (HUMAN, LISTENER)
        ),
        "unlabelled clips": tuple(
            replace(LISTENER, k=k, labelled=share, unlabelled=True) for k, share in ((3, 1 / 3), (5, 1 / 5))
        ),
        "number of proxy votes": tuple(
            replace(arm, proxy_votes=n) for n in PROXY_COUNTS for arm in (POOLED, AUDIO_VISUAL)
        ),
        "after the first results": tuple(replace(arm, k=k) for k in (3, 1) for arm in (BOTH, HALF)),
    }


def replicates() -> list[tuple[int, int]]:
    """All pairs of partition and seed; the first three share neither."""
    count = len(SEEDS)
    return [(partition, SEEDS[(partition + turn) % count]) for turn in range(count) for partition in PARTITIONS]


def cells() -> Iterator[Cell]:
    """Every cell once, three replicates at a time: the base block first, cells with a listener of their own last."""
    order = replicates()
    first, *others = blocks().values()
    rest = [arm for block in others for arm in block]
    listening = [arm for arm in rest if "listener" in arm.proxy and arm.source != LISTENER]
    planned = []
    for start in range(0, len(order), 3):
        pairs = order[start : start + 3]
        planned += [Cell(arm, *pair) for pair in pairs for arm in first]
        planned += [Cell(arm, *pair) for arm in rest if arm not in listening for pair in pairs]
        planned += [Cell(arm, *pair) for arm in listening for pair in pairs]
    yield from dict.fromkeys(planned)
