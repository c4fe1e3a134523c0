"""Bulk edits of captions: a filter, operations, and a log by which they are undone and done again on new pictures."""
