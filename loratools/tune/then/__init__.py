"""What follows a search: ways that train on its pictures, taken only where held-out pictures say that they help."""
