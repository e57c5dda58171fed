"""Applicants: which placements go to ESR, what ESR receives, and how the records follow TCS."""
