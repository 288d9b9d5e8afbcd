"""Which work an address leads to: one key for the abs, pdf and html pages of a paper, wherever they are mirrored."""

import re
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from catalog import arxiv_ids
from config.text import clean_link

MIRROR = re.compile(r"/(?:abs|pdf|html|papers|paper/arxiv|arxiv)/(?P<rest>[^/?#].*)", re.IGNORECASE)
MIRRORS = ("ar5iv.org", "alphaxiv.org", "huggingface.co", "hf.co")
DOI = re.compile(r"(?P<doi>10\.\d{4,9}/[^\s?#]+)", re.IGNORECASE)
DOI_TAIL = re.compile(r"(?:/(?:full|pdf|abstract|html|epdf|meta))?(?:\.pdf)?/?$", re.IGNORECASE)
ACL = re.compile(
    r"(?:10\.18653/v1/|/(?:anthology/)?(?:papers/)?)"
    r"(?P<id>\d{4}\.[a-z0-9-]+\.\d+|[A-Z]\d\d-\d{4})(?:v\d+)?(?:\.pdf)?/?$",
    re.IGNORECASE,
)
CODE_HOSTS = ("github.com", "gitlab.com", "gitee.com", "bitbucket.org", "codeberg.org", "sourceforge.net")
LOOKS_LIKE_HOST = re.compile(r"(?:[a-z0-9-]+\.)+[a-z]{2,}(?::\d+)?(?:/|$)", re.IGNORECASE)


def web(text: str) -> str | None:
    """The address as it can be opened, without a name and password, or None for what does not lead to the web: anchors,
    files, mail, nothing.
    """
    text = "".join(text.split())
    if text.startswith("//"):
        text = f"https:{text}"
    elif LOOKS_LIKE_HOST.match(text) and "/" in text:
        text = f"https://{text}"
    if not re.match(r"https?://[^/?#\s]", text, re.IGNORECASE):
        return None
    return clean_link(text) or None


def key(url: str) -> str:
    """`arxiv:2309.17453`, `doi:10.1145/3`, `acl:2021.eacl-main.8`, `openreview:abc`, else `url:host/path`."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").removeprefix("www.")
    except ValueError:
        return f"url:{url}"
    if found := arxiv_id(url, host, parts.path):
        return f"arxiv:{found}"
    if host in ("aclanthology.org", "aclweb.org", "aclanthology.info", "doi.org") and (acl := ACL.search(parts.path)):
        return f"acl:{acl['id'].lower()}"
    if host == "openreview.net" and (forum := dict(parse_qsl(parts.query)).get("id")):
        return f"openreview:{forum}"
    if found := doi(url):
        return f"doi:{found}"
    return f"url:{host}{_path(host, unquote(parts.path))}{_query(parts.query)}{_fragment(parts.fragment)}"


def arxiv_id(url: str, host: str = "", path: str = "") -> str | None:
    """The arXiv id an address names, on arXiv itself or on a page that mirrors it."""
    if found := arxiv_ids.find(url):
        return found
    mirrored = MIRROR.search(path) if "arxiv" in host or host in MIRRORS else None
    return arxiv_ids.find(mirrored["rest"]) if mirrored else None


def doi(url: str) -> str | None:
    """The DOI in an address, in lower case; arXiv's own DOIs count as arXiv ids."""
    found = DOI.search(unquote(url))
    if not found or found["doi"].lower().startswith("10.48550/"):
        return None
    return DOI_TAIL.sub("", found["doi"]).rstrip(".,;)").lower()


def is_code(url: str) -> bool:
    """Whether an address leads to a place where code is kept."""
    try:
        host = (urlsplit(url).hostname or "").removeprefix("www.")
    except ValueError:
        return False
    return any(host == name or host.endswith(f".{name}") for name in CODE_HOSTS)


def repository(url: str) -> str:
    """`owner/name` of an address on GitHub, or an empty string."""
    found = re.match(r"https?://(?:www\.)?github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?(?:[/?#]|$)", url)
    return found[1] if found else ""


def _path(host: str, path: str) -> str:
    path = re.sub(r"/(?:index\.html?)?$", "", re.sub(r"/{2,}", "/", path))
    if host == "github.com":
        path = path.removesuffix(".git").lower()
    return path


def _query(query: str) -> str:
    kept = sorted((k, v) for k, v in parse_qsl(query) if not k.startswith("utm_") and k not in ("tab", "ref", "source"))
    return f"?{urlencode(kept)}" if kept else ""


def _fragment(fragment: str) -> str:
    return "" if not fragment or fragment.startswith((":~:", "page=", "readme")) else f"#{fragment}"
