"""Down the gradient: where measures can be differentiated, a picture says of every number at once which way is better,
and a few hundred pictures move more numbers than thousands of drawn vectors could."""
