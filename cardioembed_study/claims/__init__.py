"""Every published number, and what can be said of it: ``06_report``."""
