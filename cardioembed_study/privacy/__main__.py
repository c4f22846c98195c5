"""The command ``python -m cardioembed_study.privacy``; see the package."""

from cardioembed_study.privacy import main

raise SystemExit(main())
