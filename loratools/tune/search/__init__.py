"""Which vectors to draw next, and which is the answer: from figures alone; nothing here draws a picture."""
