"""A stand-in for the package of ComfyUI that nodes import."""
