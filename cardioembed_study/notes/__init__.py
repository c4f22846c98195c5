"""Clinical notes: MIMIC-III's tables, recall, AUROC, silhouettes: ``01_notes`` and ``05_mimic``."""
