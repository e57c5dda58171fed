"""What is wrong, said once, to people."""
