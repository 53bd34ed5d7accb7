"""Another model over days that are scored already: a fleet of its own below that of the fleet."""

from __future__ import annotations

from dataclasses import replace

from raysvq.fleet.options import InspectOptions
from raysvq.fleet.settings.fleet import Fleet
from raysvq.storage import join


def to_rescore(fleet: Fleet, options: InspectOptions) -> tuple[Fleet, InspectOptions]:
    """The same cameras with results and ledger below `rescored/<model version>`, and the model's own folder.

    An alias may be another model's by the time that the cameras are scored.

    Raises:
        BundleError: there is no such model, or it is damaged.
    """
    if options.rescore is None:
        return fleet, options
    from raysvq.model.alias import resolve
    from raysvq.model.bundle import load_bundle

    model = resolve(options.rescore)
    out = join(fleet.out, "rescored", load_bundle(model).model_version)
    return replace(fleet, out=out), replace(options, rescore=model)
