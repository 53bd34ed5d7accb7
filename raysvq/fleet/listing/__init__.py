"""Which images lie under the templates of a fleet, camera by camera."""
