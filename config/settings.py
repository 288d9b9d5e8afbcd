"""One file of settings, all from the environment; every default works on one machine."""

import math
import os
from pathlib import Path

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from config import logs
from config.secret import read_or_make_secret
from config.security_txt import contact

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("DATA_DIR") or BASE_DIR / "data").resolve()


def _flag(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("1", "true", "yes")


def _one_of(name: str, *words: str) -> str:
    if (found := os.environ.get(name) or words[0]) not in words:
        raise ImproperlyConfigured(f"{name}: expected {' or '.join(words)}, got {found!r}")
    return found


def _whole(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ImproperlyConfigured(f"{name}: expected a whole number, 0 or more, got {text!r}")
    return int(text)


def _number(name: str, default: float) -> float:
    text = os.environ.get(name) or str(default)
    try:
        if math.isfinite(found := float(text)) and found >= 0:
            return found
    except ValueError:
        pass
    raise ImproperlyConfigured(f"{name}: expected a number, 0 or more, got {text!r}")


DEBUG = _flag("DEBUG")
SECRET_KEY = os.environ.get("SECRET_KEY") or read_or_make_secret(DATA_DIR)
ALLOWED_HOSTS = (os.environ.get("ALLOWED_HOSTS") or "localhost,127.0.0.1,[::1]").split(",")
CSRF_TRUSTED_ORIGINS = [origin for origin in os.environ.get("CSRF_TRUSTED_ORIGINS", "").split(",") if origin]

# Behind a proxy that ends TLS: HTTPS=1. Its headers count only where it is told that there is one: config/serve.py.
HTTPS = _flag("HTTPS")
TRUSTED_PROXIES = _whole("TRUSTED_PROXIES", 1 if HTTPS else 0)
if HTTPS and not TRUSTED_PROXIES:
    raise ImproperlyConfigured("TRUSTED_PROXIES: expected at least 1 with HTTPS=1, since a proxy ends TLS, got 0")
if TRUSTED_PROXIES:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^health/(live|ready)$"]  # probes ask without the proxy
SECURE_HSTS_SECONDS = _whole("HSTS_SECONDS", 3600) if HTTPS else 0
# Whether every name below the site's is served by TLS too is its owner's to say, at the proxy.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

# `manage.py up` sets this for its web server when it binds a loopback address: see readers/local.py.
LOCAL_SECRET = os.environ.get("CLAIMCHECK_LOCAL_SECRET", "")

INSTALLED_APPS = [
    "config.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.sitemaps",
    "django_htmx",
    "csp",
    "simple_history",
    "axes",
    "catalog",
    "jobs",
    "reproductions",
    "exports",
    "readers",
]

MIDDLEWARE = [
    "config.observed.observed",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "config.middleware.api_problems",
    "config.middleware.no_nul",
    "config.middleware.bearer_token",
    "readers.middleware.local_operator",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "simple_history.middleware.HistoryRequestMiddleware",
    "config.middleware.private_answers",
    "config.middleware.inert_text",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": dj_database_url.parse(os.environ.get("DATABASE_URL") or f"sqlite:///{DATA_DIR}/db.sqlite3")}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # Several processes write: one writer at a time, readers never blocked, nobody gives up early.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
    DATABASES["default"]["TEST"] = {"NAME": DATA_DIR / "test.sqlite3"}  # a file, so that tests meet real locking
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True

# Rows of the list as drawn, by the version of what they show: each web process keeps its own.
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 500}},
}

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator",
                 "NumericPasswordValidator")
]  # fmt: skip
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/"

# The brake on guessing: its limits are in readers/brake.py.
AXES_HANDLER = "readers.brake.Handler"
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"], "ip_address", "username"]
AXES_LOCKOUT_CALLABLE = "readers.brake.refusal"
AXES_CLIENT_IP_CALLABLE = "config.client.place"
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # or whoever keeps trying would keep the owner out
AXES_ENABLE_ADMIN = AXES_VERBOSE = False
AXES_DISABLE_ACCESS_LOG = True  # the audit log has it

# Who writes an act of any app down, and what the sweep lets remove what is too old.
AUDIT_LOG = "readers.audit.write"
AUDIT_DAYS = _whole("AUDIT_DAYS", 400)
UPKEEP = ["readers.upkeep.remove_old"]
SECURITY_CONTACT = contact(os.environ.get("SECURITY_CONTACT", ""))  # for /.well-known/security.txt

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "frame-ancestors": ["'none'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
    }
}

# Jobs: the row is the queue, a Celery message only wakes a worker, so nothing of Celery's own state is kept.
REDIS_URL = os.environ.get("REDIS_URL") or "redis://127.0.0.1:6379/0"
CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_connect_timeout": 2, "socket_timeout": 10, "visibility_timeout": 86400}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False

WAITING_RUNS_PER_USER = _whole("WAITING_RUNS_PER_USER", 50)
RUNS_PER_USER_A_DAY = _whole("RUNS_PER_USER_A_DAY", 500)  # those that failed by our fault do not count
WAITING_JOBS_PER_USER = _whole("WAITING_JOBS_PER_USER", 20)  # bundles and syncs
COLLECTIONS_PER_USER = _whole("COLLECTIONS_PER_USER", 200)
WORKS_PER_COLLECTION = _whole("WORKS_PER_COLLECTION", 2000)
TOKENS_PER_USER = _whole("TOKENS_PER_USER", 50)
IMPORT_DRAFTS_PER_USER = _whole("IMPORT_DRAFTS_PER_USER", 20)
IMPORT_DRAFTS_MIB = _whole("IMPORT_DRAFTS_MIB", 50)  # of the lists that one curator uploaded
IMPORT_DRAFT_DAYS = _whole("IMPORT_DRAFT_DAYS", 30)  # then a list that was not applied is removed
JOB_MEMORY_SHARE = _number("JOB_MEMORY_SHARE", 0.85)  # of the machine's memory, all of a job's processes
TIME_FACTOR = os.environ.get("TIME_FACTOR", "")  # time limits are multiplied by it; unset, a node measures its own
FREE_DISK_MIB = _whole("FREE_DISK_MIB", 512)  # a node with less takes no job
UNWANTED_AFTER_H = 24  # a job that no live node can run waits so long, then fails
HEARTBEAT_S = 5  # a node and a running job say so this often
LOST_AFTER_S = 30  # silence after which a node or a job is taken for lost
SWEEP_S = 15  # the control process looks after everything this often
# What a kind of job does: its command line, and what becomes of what it leaves behind.
JOB_KINDS = {"run": "reproductions.runs", "arxiv": "catalog.arxiv_job", "bundle": "exports.bundles"}

# arXiv: its terms ask for one request in 3 s over all machines, so a smaller gap holds for other addresses only.
ARXIV_API_URL = os.environ.get("ARXIV_API_URL") or "https://export.arxiv.org/api/query"
ARXIV_OAI_URL = os.environ.get("ARXIV_OAI_URL") or "https://oaipmh.arxiv.org/oai"
ARXIV_GAP_S = _number("ARXIV_GAP_S", 3)

ARXIV_PDF_URL = os.environ.get("ARXIV_PDF_URL") or "https://export.arxiv.org/pdf"
PAPERS_MIB = _whole("PAPERS_MIB", 4096)  # disk that copies of papers may take
FETCH_TEST_SERVER = os.environ.get("FETCH_TEST_SERVER", "")  # host:port of the tests' own server, which is not public
BUNDLES_MIB = _whole("BUNDLES_MIB", 4096)  # disk that PDF bundles may take; the least used go first

METRICS = _one_of("METRICS", "operators", "public")  # who may read /metrics
LOG_FORMAT = _one_of("LOG_FORMAT", *logs.FORMATS)
LOGGING = logs.configuration(LOG_FORMAT, os.environ.get("LOG_LEVEL") or "WARNING")
