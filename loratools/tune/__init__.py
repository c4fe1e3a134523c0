"""Tuning: what a person would find by trying and looking, found by drawing and measuring: the block vector that repairs
a LoRA, and the epoch of a run to take."""
