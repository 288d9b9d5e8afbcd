"""The one way out: requests to addresses that somebody else chose go to the public web and nowhere else.

A name is looked up once, every address of it must be public, and the connection goes to one that was checked, so a
later answer changes nothing; each redirect is held to the same. Proxies of the environment are not used, since they
would look names up themselves. A site that the operator named in the environment is asked where it is, and only by
requests that begin there. tests/test_outgoing.py lists the modules that may open connections at all.
"""

import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import certifi
import urllib3
from django.conf import settings
from requests.adapters import HTTPAdapter

PORTS = {"http": 80, "https": 443}
TO_CONNECT_S = 10
SPECIAL = [ipaddress.ip_network(text) for text in (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/3", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]  # fmt: skip
PUBLIC6 = ipaddress.ip_network("2000::/3")  # all else of IPv6 is local, mapped, translated or unassigned


class NotPublic(Exception):
    """An address that is not asked; the message is one line for people."""


class NoAnswer(Exception):
    """A site that has no address now, or takes no connection; another try may find it."""


def public(text: str) -> bool:
    """Whether an address is one of the public internet."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return False
    if found.version == 6 and (found.scope_id or found not in PUBLIC6):
        return False
    return not any(found in network for network in SPECIAL if network.version == found.version)


def place(url: str) -> str:
    """host:port of an address; empty if it has none."""
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:
        return ""
    return f"{parts.hostname}:{port}" if parts.hostname and port else ""


def named(*urls: str) -> frozenset[str]:
    """The sites of addresses that the operator set, in place of arXiv's own, and the tests' server."""
    places = {place(url) for url in (*urls, f"http://{settings.FETCH_TEST_SERVER}")}
    return frozenset(one for one in places if one and not one.rpartition(":")[0].endswith("arxiv.org"))


def resolve(host: str, port: int) -> list[str]:
    """Every address of a name."""
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def checked_addresses(host: str, port: int, trusted: frozenset[str] = frozenset()) -> list[str]:
    """The addresses of a name, if all are public or the site is trusted; else NotPublic."""
    host = host.strip("[]")
    try:
        found = resolve(host, port)
    except (OSError, UnicodeError):
        raise NoAnswer(f"{host} has no address") from None
    if f"{host}:{port}" in trusted:
        return found
    if refused := [one for one in found if not public(one)]:
        raise NotPublic(f"{host} leads to {refused[0]}, which is no public address")
    return found


def checked_url(url: str, trusted: frozenset[str] = frozenset()) -> str:
    """The address without its fragment, if it is one of the web, at its usual port, without a name and password."""
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:
        raise NotPublic("its address cannot be read") from None
    host = parts.hostname or ""
    if parts.scheme not in PORTS or not host or parts.username is not None or parts.password is not None:
        raise NotPublic(f"{parts.scheme or 'no scheme'}: only plain http and https addresses are asked")
    if port != PORTS[parts.scheme] and f"{host}:{port}" not in trusted:
        raise NotPublic(f"port {port} of {host}: only the web's own ports are asked")
    return urlunsplit((parts.scheme, parts.netloc, parts.path, parts.query, ""))


class _Checked:
    """A connection that goes to an address that was checked, whatever the name says a moment later."""

    trusted: frozenset[str]

    def _new_conn(self: Any) -> socket.socket:
        trouble: OSError | None = None
        for found in checked_addresses(self.host, self.port, self.trusted):
            try:
                made = socket.create_connection((found, self.port), TO_CONNECT_S)
            except OSError as error:
                trouble = error
                continue
            made.settimeout(self.timeout if isinstance(self.timeout, int | float) else TO_CONNECT_S)
            return made
        raise NoAnswer(f"{self.host} does not answer: {trouble.strerror if trouble else ''}".rstrip(": "))


def pools(trusted: frozenset[str]) -> dict[str, Any]:
    """Classes of urllib3's pools by scheme, whose connections are checked."""
    http = type("Http", (_Checked, urllib3.connection.HTTPConnection), {"trusted": trusted})
    https = type("Https", (_Checked, urllib3.connection.HTTPSConnection), {"trusted": trusted})
    return {
        "http": type("HttpPool", (urllib3.HTTPConnectionPool,), {"ConnectionCls": http}),
        "https": type("HttpsPool", (urllib3.HTTPSConnectionPool,), {"ConnectionCls": https}),
    }


def client(trusted: frozenset[str] = frozenset()) -> urllib3.PoolManager:
    """A client of one connection at a time, which follows no redirect and tries nothing again."""
    made = urllib3.PoolManager(num_pools=1, ca_certs=certifi.where(), retries=False)
    made.pool_classes_by_scheme = pools(trusted)
    return made


class Guarded(HTTPAdapter):
    """The same for `requests`: mounted on a session, it checks each request and each redirect that follows."""

    def __init__(self, trusted: frozenset[str] = frozenset(), **options: Any) -> None:
        self.trusted = trusted
        super().__init__(**options)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """With pools whose connections are checked."""
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = pools(self.trusted)

    def send(self, request: Any, *args: Any, **options: Any) -> Any:
        """Ask, if the address may be asked; never through a proxy."""
        checked_url(request.url or "", self.trusted)
        return super().send(request, *args, **options | {"proxies": {}})
