"""Base + adapters -> pictures: cells with content keys, batched rendering that resumes, a labelled sheet and a page."""
