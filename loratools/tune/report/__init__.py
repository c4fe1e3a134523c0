"""What held-out pictures say of the answer: figures with standard errors, a verdict, a sheet and a plot."""
