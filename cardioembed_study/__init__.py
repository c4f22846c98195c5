"""What this study does with the method: one room a notebook, and on the ground what several rooms use.

Imports go one way: ``cardioembed_lib``, ground, corpus, training, retrieval, forgetting and notes, claims, report, workflow.
"""

import cardioembed_lib  # noqa: F401 (before anything loads torch: it sets how threads wait)
