"""Settings: all of them with their meaning, how they are read, and how they are documented."""
