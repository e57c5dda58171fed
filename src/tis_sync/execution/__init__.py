"""How runs and nights are carried out: the workflows and their steps.

Each step is recorded when it is done, and can be repeated. Every error leaves a step as a
`TisSyncError` with a message for people.
"""
