"""Measures without a judge: features of the base's own UNet, and what marked pictures, training pictures and the base's
own pictures say in them."""
