"""The pocket base: a miniature Stable Diffusion 1.x, the drawings it was trained on, and a judge that reads them."""
