"""Training all weights of a base, against sd-scripts' train_db.py and sdxl_train.py, and against a LoRA."""
