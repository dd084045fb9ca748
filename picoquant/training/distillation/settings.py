"""What a student learns from its teacher, and whether the two fit each other.

Source of names and defaults: PaddleDetection 2.6, ppdet/slim/distill_loss.py, and configs/gfl for localization
distillation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from picoquant.detector.settings import DetectorSettings
from picoquant.errors import ConfigError
from picoquant.utils.setting_checks import flag


def _numbers(settings: Any, where: str, above: tuple[str, ...], whole: tuple[str, ...] = ()) -> None:
    """Refuse what is no finite number of 0 or more, for `above` no number above 0, for `whole` no count."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(field.default, bool):
            flag(f"{where}.{field.name}", value)
            continue
        if value is None and field.default is None:
            continue
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not number or value < 0 or (field.name in above and value == 0):
            least = "above 0" if field.name in above else "of 0 or more"
            raise ConfigError(f"{where}.{field.name}: expected a number {least}, found {value!r}")
        if field.name in whole and not (isinstance(value, int) and value > 0):
            raise ConfigError(f"{where}.{field.name}: expected a whole number from 1, found {value!r}")


@dataclass(frozen=True)
class FgdSettings:
    """Focal and global distillation of the neck's feature maps (`FGDFeatureLoss`).

    Attributes:
        student_channels, teacher_channels: of the necks' maps; None: as the networks have them.
        normalize: compare maps of mean 0 and deviation 1.
        loss_weight: of the sum of the four terms.
        temp: temperature of the attentions.
        alpha_fgd, beta_fgd, gamma_fgd, lambda_fgd: weights of objects, background, attention, relations.
    """

    student_channels: int | None = None
    teacher_channels: int | None = None
    normalize: bool = False
    loss_weight: float = 1.0
    temp: float = 0.5
    alpha_fgd: float = 0.001
    beta_fgd: float = 0.0005
    gamma_fgd: float = 0.001
    lambda_fgd: float = 0.000005

    def __post_init__(self) -> None:
        channels = ("student_channels", "teacher_channels")
        _numbers(self, "Train.distillation.FGD", ("temp", *channels), channels)


@dataclass(frozen=True)
class LdSettings:
    """Localization distillation: of the distributions of box distances at the student's positive points.

    Attributes:
        loss_weight: of the term.
        T: temperature of both distributions.
    """

    loss_weight: float = 0.25
    T: float = 10.0

    def __post_init__(self) -> None:
        _numbers(self, "Train.distillation.LD", ("T",))


@dataclass(frozen=True)
class KdSettings:
    """Distillation of the class scores at all points, by the quality focal loss with the teacher's scores as targets.

    Attributes:
        loss_weight: of the term.
        beta: focusing exponent: how much more the points weigh where the two differ.
    """

    loss_weight: float = 1.0
    beta: float = 2.0

    def __post_init__(self) -> None:
        _numbers(self, "Train.distillation.KD", ())


@dataclass(frozen=True)
class TeachingSettings:
    """What is learned from a teacher; at least one of the three.

    Attributes:
        fgd, ld, kd: None where it is not.
        levels: the neck's levels that `fgd` is for, 0 the finest; None: all.
    """

    fgd: FgdSettings | None = None
    ld: LdSettings | None = None
    kd: KdSettings | None = None
    levels: tuple[int, ...] | None = None

    @property
    def of_outputs(self) -> bool:
        """Whether the teacher's scores and distances are learned."""
        return bool(self.ld or self.kd)


def check_pair(student: DetectorSettings, teacher: DetectorSettings, what: TeachingSettings) -> None:
    """Refuse a teacher whose points, distances or maps are others than the student's.

    Raises: `ConfigError` naming what differs, of teacher and student.
    """
    heads = student.head, teacher.head
    same = [("fpn_stride", "strides of the levels")]
    if what.of_outputs:
        same += [("cell_offset", "place of an anchor point in its cell")]
    if what.ld:
        same += [("reg_max", "largest distance")]
    for key, meaning in same:
        mine, other = (getattr(head, key) for head in heads)
        if mine != other:
            raise ConfigError(
                f"Train.teacher: its {meaning} is {_plain(other)} and the student's {_plain(mine)} ({key} of the "
                "head): a teacher must have the student's"
            )
    channels = {"student_channels": student.neck.out_channels, "teacher_channels": teacher.neck.out_channels}
    for key, found in channels.items():
        said = getattr(what.fgd, key) if what.fgd else None
        if said is not None and said != found:
            raise ConfigError(
                f"Train.distillation.FGD.{key}: {said}, but the {key.split('_')[0]}'s neck gives {found} channels; "
                "leave it out, or name another teacher"
            )
    for level in what.levels or ():
        if level >= len(student.head.fpn_stride):
            raise ConfigError(
                f"distill_loss_name: neck_f_{level} is no level of a neck with {len(student.head.fpn_stride)}, which "
                "count from neck_f_0"
            )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
