"""Inspection of a whole fleet, on a schedule: find what is new, score it, watch for drift, tell people."""
