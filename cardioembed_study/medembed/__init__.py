"""The MedEmbed study: negatives, sizes, merges, smaller vectors, late interaction (``04_medembed``)."""
