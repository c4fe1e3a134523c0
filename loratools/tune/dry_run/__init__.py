"""What a tune would do: pictures, memory and time, before anything is loaded, drawn or written."""
