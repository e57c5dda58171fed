"""The doctor: checks of everything that the service relies on, each with its remedy."""
