"""Thirty LoRAs that are overfit to one defect each, and what a tune makes of them."""
