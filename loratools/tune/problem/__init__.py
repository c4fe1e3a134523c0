"""What a tune is about: the vector's numbers, what is to become better and what must stay, which pictures, how many."""
