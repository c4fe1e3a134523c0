"""What is claimed of the families of transformers: their targets' loaders, and the memory that large files take."""
