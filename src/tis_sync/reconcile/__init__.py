"""Reconciliation: plan the difference between desired and existing state, check it, apply it."""
