"""What ``06_report`` puts together."""
