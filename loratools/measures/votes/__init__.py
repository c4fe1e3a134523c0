"""What a person likes better, from choices between two: a model over block vectors, and which two to show next."""
