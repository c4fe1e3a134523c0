"""What is in a folder of pictures: sizes, classes, copies, variants, text, tags, and what the guides say of it."""
