"""Another model over days that are scored already: a fleet of its own below that of the fleet."""

from __future__ import annotations

from dataclasses import replace

from raysvq.fleet.settings.fleet import Fleet
from raysvq.storage import join


def fleet_to_rescore(fleet: Fleet, model: str) -> Fleet:
    """The same cameras with results and ledger below `rescored/<model version>`.

    Raises:
        BundleError: there is no such model, or it is damaged.
    """
    from raysvq.model.alias import resolve
    from raysvq.model.bundle import load_bundle

    version = load_bundle(resolve(model)).model_version
    return replace(fleet, out=join(fleet.out, "rescored", version))
