"""Folders of drawings in which what a data set's tools must find was planted, with the truth beside them."""
