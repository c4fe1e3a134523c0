"""What is checked before a version goes out, and its list of dependencies with their licences."""
