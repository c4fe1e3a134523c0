"""Live pictures: one process that keeps the base loaded draws what the sliders say; the newest wish wins."""
