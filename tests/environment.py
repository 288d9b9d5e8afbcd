"""The environment of the tests, as a plugin (`-p tests.environment`): set before Django or Triton are loaded."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# No test finds what an earlier run left: caches lie in a home that is made new for each run of the suite, and that its
# processes share. A browser that was installed is no cache.
os.environ.setdefault("PLAYWRIGHT_BROWSERS_PATH", str(Path.home() / ".cache" / "ms-playwright"))
if "PYTEST_XDIST_WORKER" not in os.environ:
    home = tempfile.mkdtemp(prefix="claimcheck-home-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ |= {"HOME": home, "XDG_CACHE_HOME": f"{home}/.cache", "TRITON_CACHE_DIR": f"{home}/.triton/cache"}
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "TORCHINDUCTOR_CACHE_DIR", "HF_HOME"):
        os.environ.pop(name, None)

# Read when a kernel is decorated. TRITON_INTERPRET=0 on a GPU machine tests the compiled kernels instead.
os.environ.setdefault("TRITON_INTERPRET", "1")
DEVICE = "cpu" if os.environ["TRITON_INTERPRET"] == "1" else "cuda"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the suite runs a process a core
for name in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DEBUG", "ALLOWED_HOSTS", "BIND", "PORT"):
    os.environ.pop(name, None)
if url := os.environ.pop("TEST_DATABASE_URL", None):
    os.environ["DATABASE_URL"] = url
# Each test process has its own database and scratch; they share the language model, which takes 20 s to read.
MODELS = Path(os.environ["HOME"]) / "models"
MODELS.mkdir(exist_ok=True)
os.environ["DATA_DIR"] = tempfile.mkdtemp(prefix="claimcheck-tests-")
atexit.register(shutil.rmtree, os.environ["DATA_DIR"], ignore_errors=True)
(Path(os.environ["DATA_DIR"]) / "models").symlink_to(MODELS)
# Playwright keeps an event loop in the thread of the tests, which speak to the database from it one after the other.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
