"""What downloaders and other tools left beside pictures (tags, categories, ids), read to the one model of tags."""
