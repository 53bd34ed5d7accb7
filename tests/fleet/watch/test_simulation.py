"""The benchmark of watching in a short form."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.watch import CHANGES, START, Fleet, watch


def test_it_is_quiet_on_healthy_cameras_and_names_those_that_change() -> None:
    fleet = Fleet(24, 1)
    fleet.volumes[:] = 150
    fleet.volumes[6] = 600  # four times few alarms show in many images
    found: dict[int, set[str]] = {n: set() for n in range(24)}
    fleet.changed = dict(enumerate([*CHANGES[:-1], replace(CHANGES[-1], volume=0.35)]))
    for number, night in enumerate(watch(fleet, START + 5)):
        for n, name in enumerate(fleet.names):
            warned = {one.signal for one in night[name] if one.level != "info"}
            if n not in fleet.changed or number < START:
                assert not warned, (number, night[name])
            found[n] |= warned
    for n, change in fleet.changed.items():
        assert change.signal in found[n], change.name
