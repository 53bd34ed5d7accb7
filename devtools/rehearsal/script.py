"""What happens in the rehearsed nights: which camera uploads what, and what befalls the runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

PRODUCTS = ("plates", "panels")
DRIFTING, REVOKED, NEW = 0, 1, 2  # numbers of the cameras with a fate of their own
DRIFT_STOPS = -0.8  # of the exposure of the drifting camera, at once
DETECTED_WITHIN = 2  # nights from the first one that drifts
MENDED_AFTER = 2  # nights until a broken file is replaced by a whole one
HABITS = ("punctual", "late", "again", "replaced", "broken")

Kind = Literal["good", "defective", "broken"]


@dataclass(frozen=True)
class Camera:
    """A camera of the plant, and how its files reach the store."""

    number: int

    @property
    def product(self) -> str:
        """What it photographs; a model for each."""
        return PRODUCTS[self.number % len(PRODUCTS)]

    @property
    def line(self) -> str:
        """Where it stands."""
        return f"line-{1 + self.number // 10}"

    @property
    def short(self) -> str:
        """Its own part of the name."""
        return f"cam-{self.number:02d}"

    @property
    def name(self) -> str:
        """As the fleet names it: the fields of the template in their order, without date and name."""
        return f"{self.product}.{self.line}.{self.short}"

    @property
    def prefix(self) -> str:
        """Folder of its images in the bucket."""
        return f"raw/{self.product}/{self.line}/{self.short}"

    @property
    def habit(self) -> str:
        """Late: two images a night come one and two days after their date. Again: one image of the night
        before is uploaded a second time, with the same bytes. Replaced: one of the night before is
        replaced. Broken: a file is cut off, and replaced by a whole one MENDED_AFTER nights later."""
        return "punctual" if self.number in (DRIFTING, REVOKED, NEW) else HABITS[self.number % len(HABITS)]


@dataclass(frozen=True)
class Shot:
    """A file that a camera uploads."""

    camera: Camera
    night: int  # of the date in its name
    number: int  # among the images of that night
    kind: Kind
    stops: float = 0.0  # of exposure, against what the model has learnt from
    edition: int = 0  # a replacement has another one

    def key(self, first: date) -> str:
        """In the bucket."""
        return f"{self.camera.prefix}/{first + timedelta(self.night - 1)}/{self.number:03d}.jpg"


@dataclass(frozen=True)
class Script:
    """The rehearsal. Nights count from 1; 0 is never."""

    cameras: int = 50
    nights: int = 14
    images: int = 12  # of a camera and night
    nodes: int = 3
    first: date = date(2026, 5, 4)
    killed: int = 4  # a node and the driver are killed, then the run is started again
    revoked: tuple[int, ...] = (5, 6, 7)  # the rights to one camera's images
    joins: int = 6  # a camera that was not there before
    missed: int = 8
    drifts: int = 9  # from this night on
    names_drift: bool = True  # exposure must be named; needs some nights before to compare with
    twice: int = 10  # two runs are started at the same time
    promoted: int = 11  # another model for the first product

    def day(self, night: int) -> date:
        """Its date."""
        return self.first + timedelta(night - 1)

    def all_cameras(self) -> list[Camera]:
        """Also the one that joins later."""
        return [Camera(number) for number in range(self.cameras)]

    def is_found(self, camera: Camera, night: int) -> bool:
        """Whether a run of that night sees the camera's files."""
        return night != self.missed and not (camera.number == REVOKED and night in self.revoked)

    def found_in(self, camera: Camera, night: int) -> int:
        """The night in which a file is found that was uploaded before a night's run."""
        return next(each for each in range(night, self.nights + 2) if self.is_found(camera, each))

    def uploads(self, camera: Camera, night: int) -> Iterator[Shot]:
        """What a camera uploads before a night's run."""
        begins = self.joins if camera.number == NEW else 1
        for delay in range(3):
            if night - delay >= begins:
                yield from self._dated(camera, night - delay, delay)
        before = night - 1
        if before >= begins and camera.habit in ("again", "replaced"):
            yield self._shot(camera, before, 0, edition=int(camera.habit == "replaced"))
        if night - MENDED_AFTER >= begins and camera.habit == "broken":
            yield self._shot(camera, night - MENDED_AFTER, 0, edition=1)

    def _dated(self, camera: Camera, night: int, delay: int) -> Iterator[Shot]:
        """The images with a night's date that come so many days late."""
        for number in range(self.images):
            if delay == (number + 1 if camera.habit == "late" and number < 2 else 0):
                yield self._shot(camera, night, number)

    def _shot(self, camera: Camera, night: int, number: int, edition: int = 0) -> Shot:
        stops = DRIFT_STOPS if camera.number == DRIFTING and 0 < self.drifts <= night else 0.0
        kind: Kind = "good"
        if camera.habit == "broken" and number == 0 and edition == 0:
            kind = "broken"
        elif number == self.images - 1 and (camera.number + night) % 8 == 3:
            kind = "defective"
        return Shot(camera, night, number, kind, stops, edition)

    def events(self, night: int) -> list[str]:
        """What befalls a night, in words."""
        told = {
            "driver and node killed": night == self.killed,
            "rights revoked": night in self.revoked,
            "new camera": night == self.joins,
            "missed": night == self.missed,
            "exposure drifts": night == self.drifts,
            "started twice": night == self.twice,
            "model promoted": night == self.promoted,
        }
        return [event for event, happens in told.items() if happens]


FULL = Script()
SHORT = Script(
    cameras=10,
    nights=3,
    nodes=2,
    killed=0,
    revoked=(2,),
    joins=2,
    missed=0,
    drifts=3,
    names_drift=False,
    twice=3,
    promoted=3,
)
