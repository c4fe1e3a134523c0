"""Every picture of README and the documentation, and how it is made again: ``python -m tools.pictures``."""
