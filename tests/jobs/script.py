"""A kind of job for tests: a real child process that runs a few lines of Python."""

import json

from jobs.supervise import BadResult

SCRIPTS = {
    "well": "import json; print('hello'); json.dump({'n': 1}, open(FOLDER + '/result.json', 'w'))",
    "no-result": "print('forgot the result')",
    "fails": "raise SystemExit(3)",
    "says-why": "import json, sys; json.dump({'code': 'missing-model', 'message': 'no model'}, "
    "open(FOLDER + '/failure.json', 'w')); sys.exit(1)",
    "fills-its-disk": "try:\n  with open(FOLDER + '/rows', 'wb', buffering=0) as rows:\n"
    "    while True: rows.write(b'x' * 4096)\nexcept OSError as e: print(e); raise SystemExit(1)",
    "killed": "import os; print('so far', flush=True); os.kill(os.getpid(), 9)",
    "bad-parameters": "raise SystemExit(2)",
    "spins": "print('started', flush=True)\nwhile True: pass",
    "waits-for-a-word": "import json, pathlib, time; print('started', flush=True)\n"
    "while not pathlib.Path(FOLDER + '/word').exists(): time.sleep(0.05)\n"
    "json.dump({'n': 1}, open(FOLDER + '/result.json', 'w'))",
    "sleeps": "import time; print('started', flush=True); time.sleep(300)",
    "stubborn": "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork(); "
    "print('started', flush=True); time.sleep(300)",
    "leaves-the-group": "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "if os.fork() == 0: os.setsid()\n"
    "print('started', flush=True); time.sleep(300)",
    "hungry": "import os, resource\nlimit = resource.getrlimit(resource.RLIMIT_DATA)[0]\n"
    "try: bytearray(limit)\nexcept MemoryError: print('refused by the kernel')",
    "hungry-family": "import os, time\nfor _ in range(4):\n"
    "  if os.fork() == 0: kept = b'x' * 150_000_000; time.sleep(300)\n"
    "time.sleep(300)",
    "chatty": "for i in range(400_000): print('line', i, 'x' * 60)\nprint('the end')",
    "no-way-out": "import socket\ntry: socket.create_connection(('192.0.2.1', 80), 3)\nexcept OSError as e: print(e)",
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
