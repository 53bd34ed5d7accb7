"""The page of a fleet: a static site beside its ledger, with all cameras at a glance and a page for each."""

from raysvq.report.fleet.render import write_page

__all__ = ["write_page"]
