"""The HTTP API, a file a subject: each handler reads a model, calls the rooms above, and answers with a model."""
