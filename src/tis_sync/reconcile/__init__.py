"""Plan the difference between what should be and what is, guard it, carry it out."""
