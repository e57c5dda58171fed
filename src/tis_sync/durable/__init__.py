"""Durable execution: workflows and recorded steps, carried out by DBOS."""
