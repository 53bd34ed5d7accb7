"""The scoring job: manifest + bundle -> committed score and reject rows."""

from __future__ import annotations

import tempfile
from pathlib import Path

from raysvq.data.preflight import require_readable
from raysvq.results.format import new_run_id
from raysvq.runtime.lease import lease
from raysvq.scoring.parts import Part, score_alone
from raysvq.scoring.request import open_request
from raysvq.scoring.summary import ScoreSummary
from raysvq.scoring.takeover import find_leftovers, finished_folders
from raysvq.scoring.work import remove_work
from raysvq.settings import Settings
from raysvq.storage import require_put_if_absent

PROBED_IMAGES = 8  # read before a run starts


def score(manifest: str, model: str, out: str, settings: Settings) -> ScoreSummary:
    """Score every image of a manifest that is not yet scored in `out`, or has changed since.

    Stopped at any instant and started again, it goes on where it was: what counts in the end is the same
    as if it had never been stopped.

    Args:
        manifest: a manifest, path or URI; also a folder of them, none of whose images overlap.
        model: a bundle's folder, path or URI.
        out: the score directory to fill, path or URI.

    Raises:
        DataError, BundleError, StorageError, SettingsError: the run cannot start.
        ScoringError: the processes that score some images die again and again, or more images than
            `scoring.max_rejected` are rejected for reasons outside them.
        AccountingError: scored and rejected rows do not add up to the manifest.
    """
    request = open_request(manifest, model, out, settings)
    out = request.out
    assert request.manifest is not None
    require_readable(request.manifest.head(PROBED_IMAGES, columns=["uri"])["uri"].to_pylist())
    run_id = new_run_id()
    with lease(out, run_id) as require_held, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        require_put_if_absent(out)
        leftovers = find_leftovers(out, folder)
        pending = request.find_pending(folder, leftovers.paths, mend=True)
        if not pending.images:
            remove_work(finished_folders(leftovers, pending.path))
            return ScoreSummary(out, run_id, 0, pending.done)
        part = Part(out, request, pending, leftovers=leftovers)
        return score_alone(part, settings, require_held, run_id)
