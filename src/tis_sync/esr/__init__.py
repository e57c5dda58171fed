"""The exchange of files with ESR, the payroll system: applicants, notifications, messages."""
