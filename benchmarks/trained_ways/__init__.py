"""What ways that train add to a search: benchmark of ``blocks tune --then``."""
