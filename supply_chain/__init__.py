"""What is shipped, where it comes from and under which licences. A development tool, not shipped.

`make docs` writes the list of licences, `make sbom` the software bill of materials. Installing and
building are pinned by the lock files themselves; see docs/decisions/0024-supply-chain.md.
"""
