"""Where faces, heads, bodies and text are in a picture, by detectors or by hand, and which class that makes."""
