"""Rebuild the pocket base and its judge from nothing; ``python -m tools.build_pocket --help`` lists the stages."""
