"""The documentation as a site: ``mkdocs build --strict``, in an environment with the extra [docs]."""
