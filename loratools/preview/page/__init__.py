"""``grid.html``: one page beside the cells that works offline, with no other file but the pictures."""

from loratools.preview.page.write import draw_page, draw_view, write_page

__all__ = ["draw_page", "draw_view", "write_page"]
