"""What is measured of a picture's file: size, kind, alpha, colour, digest, and a print to compare it by."""
