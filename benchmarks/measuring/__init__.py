"""What ``benchmarks.measures`` is made of: what was stored of LoRAs, and a voter who chooses between vectors."""
