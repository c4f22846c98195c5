"""From sources to passages and pairs: ``01_corpus``."""
