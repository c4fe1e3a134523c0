"""The one model of tags: a tag with its category, score and source, a picture with its tags, and where both are kept.

Everything that reads or changes tags (import, taggers, edits, the reports) goes through these types.
"""
