"""What a person is asked while a tune goes on: pictures to mark, or pairs to choose from; and the searches of it."""
