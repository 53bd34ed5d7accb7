"""A run as metrics for Prometheus, through Ray's own exporter."""
