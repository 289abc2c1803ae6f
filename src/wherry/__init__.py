"""wherry, a container engine: see docs/architecture.md for the house and its tiers."""

__version__ = "0.1.0"
