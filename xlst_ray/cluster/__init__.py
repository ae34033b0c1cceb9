"""The adapter room: the only one that imports Ray."""

import os

# Ray Data LLM logs a line a call of the engine, which would drown all others. Ray reads this when it is imported.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", r"\[vLLM\] Elapsed time for batch")
