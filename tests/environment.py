"""The environment of the tests, as a plugin (`-p tests.environment`): set before Django or Triton are loaded."""

import os
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Read when a kernel is decorated. TRITON_INTERPRET=0 on a GPU machine tests the compiled kernels instead.
os.environ.setdefault("TRITON_INTERPRET", "1")
DEVICE = "cpu" if os.environ["TRITON_INTERPRET"] == "1" else "cuda"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the suite runs a process a core
for name in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DEBUG", "ALLOWED_HOSTS", "BIND", "PORT"):
    os.environ.pop(name, None)
if url := os.environ.pop("TEST_DATABASE_URL", None):
    os.environ["DATABASE_URL"] = url
# Each test process has its own database and scratch; the language model, read once in 20 s, is kept between runs.
os.environ["DATA_DIR"] = tempfile.mkdtemp(prefix="claimcheck-tests-")
(ROOT / "data" / "models").mkdir(parents=True, exist_ok=True)
(Path(os.environ["DATA_DIR"]) / "models").symlink_to(ROOT / "data" / "models")
# Playwright keeps an event loop in the thread of the tests, which speak to the database from it one after the other.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
