"""Families that make pictures, one file each."""
