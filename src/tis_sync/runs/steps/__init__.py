"""The steps of a run and of a night; each is recorded when it is done, and can be repeated.

Every error leaves a step as a `TisSyncError` with a message for people.
"""
