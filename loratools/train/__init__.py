"""Training: a base and folders of captioned images in, one LoRA file an epoch out."""
