"""What the page and the server say to each other: pydantic models, from which the page's types are generated."""
