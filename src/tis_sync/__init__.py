"""tis-sync: everything derived from TCS, kept right by declared state, planned and applied."""

__version__ = "0.1.0"
