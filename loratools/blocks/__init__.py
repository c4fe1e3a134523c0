"""What a block vector is: strings in, floats out. Knows no adapter and needs no torch."""
