"""Why a route did not take its message."""


class RouteError(Exception):
    """A message was not taken. The text says why, and holds nothing of the route's URL."""
