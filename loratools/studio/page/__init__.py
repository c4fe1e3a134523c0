"""The studio's page: its source in TypeScript (``src``), and the built page that users are served (``dist``)."""

from pathlib import Path

DIST = Path(__file__).parent / "dist"
"""``index.html`` and ``assets``; built by ``npm run build``, see docs/studio.md."""
