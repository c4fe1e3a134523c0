"""Families that make films, and their siblings, one file each."""
