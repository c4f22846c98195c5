"""Queries and paraphrases of the books' passages, written by rule or by a language model: ``01_queries``."""
