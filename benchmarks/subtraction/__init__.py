"""What does subtracting the base's own style do to a style LoRA's pictures? On the pocket base a judge knows."""
