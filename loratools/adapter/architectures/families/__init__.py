"""One file of data for each model family of blocks: its constant ``FAMILY``, found by known_families."""
