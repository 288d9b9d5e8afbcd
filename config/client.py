"""Where a request comes from: the address of the visitor, and the part of the net that one visitor may have."""

import ipaddress

from django.conf import settings
from django.http import HttpRequest

NOWHERE = "0.0.0.0"  # for what has no address, such as a Unix socket
OF_ONE_VISITOR = 64  # bits of an IPv6 address that a provider gives to one customer


def address(request: HttpRequest) -> str | None:
    """The visitor's address, or None where there is none.

    A visitor may write into `X-Forwarded-For` what he likes; each proxy adds, at its end, the address that asked it.
    So the header counts only where the operator says how many proxies are in front, and only so many from its end.
    """
    found = request.META.get("REMOTE_ADDR", "")
    if settings.TRUSTED_PROXIES and (hops := request.headers.get("X-Forwarded-For", "").split(",")) != [""]:
        found = hops[-settings.TRUSTED_PROXIES :][0]
    return _read(found)


def place(request: HttpRequest) -> str:
    """The address for counting: of IPv6 the network, since one visitor has 2**64 addresses in it."""
    return place_of(address(request))


def place_of(address: str | None) -> str:
    """The same for an address that is known already."""
    if not address or ":" not in address:
        return address or NOWHERE
    return str(ipaddress.ip_network(f"{address}/{OF_ONE_VISITOR}", strict=False).network_address)


def _read(text: str) -> str | None:
    """An address as its plain text: without port, brackets or zone, and IPv4 as such; None for anything else."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return str(getattr(found, "ipv4_mapped", None) or found)
