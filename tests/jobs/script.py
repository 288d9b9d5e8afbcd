"""A kind of job for tests: a real child process that runs a few lines of Python."""

import json

from jobs.supervise import BadResult

SCRIPTS = {
    "well": "import json; print('hello'); json.dump({'n': 1}, open(FOLDER + '/result.json', 'w'))",
    "no-result": "print('forgot the result')",
    "fails": "raise SystemExit(3)",
    "says-why": "import json, sys; json.dump({'code': 'missing-model', 'message': 'no model'}, "
    "open(FOLDER + '/failure.json', 'w')); sys.exit(1)",
    "killed": "import os; print('so far', flush=True); os.kill(os.getpid(), 9)",
    "bad-parameters": "raise SystemExit(2)",
    "sleeps": "import time; print('started', flush=True); time.sleep(300)",
    "stubborn": "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork(); "
    "print('started', flush=True); time.sleep(300)",
    "environment": "import os; print(sorted(os.environ)); raise SystemExit(3)",
    "progress": "import json, os, time; json.dump({'stage': 'half way', 'done': 1, 'total': 2}, "
    "open(FOLDER + '/progress.json', 'w')); time.sleep(300)",
}
STORED: list[tuple[int, dict]] = []


def command(job, folder):
    return ["-c", f"FOLDER = {str(folder)!r}\n{SCRIPTS[job.requires]}"]


def store(job, folder, *, finished):
    if finished:
        try:
            STORED.append((job.pk, json.loads((folder / "result.json").read_text())))
        except OSError:
            raise BadResult("no result.json") from None


def stored(job):
    """Nothing follows."""
