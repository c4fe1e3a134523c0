"""The verdict over a run's epochs: each drawn on the same prompts, seeds and noise, measured, and one recommended with
the evidence. :func:`.verdict.epoch_verdict` does it all."""
