"""What a picture is worth: pictures in, numbers out. Every measure gives one value a picture, and every figure made of
these has its standard error. Nothing here draws a picture or knows a LoRA; previews, the search and the verdict over
epochs build on it."""
