"""One module for each incident of the live systems that must not happen again."""
