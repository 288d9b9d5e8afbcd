"""python -m tests.site.tls_proxy PORT WEB NAME: a proxy as it is set up in front of the site, but for the TLS itself.

It passes the name on that it was asked by, and says who asked, and that it was by https; what a client says of that
itself it replaces. The tests ask it by http, so it also says in their place what a browser says by https: the referrer.
"""

import sys

from twisted.internet import reactor
from twisted.web.proxy import ProxyClientFactory, ReverseProxyResource
from twisted.web.server import Site


class Told(ProxyClientFactory):
    """A request with what the proxy adds."""

    def __init__(self, command, rest, version, headers, data, father):
        told = {b"host": sys.argv[3].encode(), b"x-forwarded-proto": b"https", b"x-forwarded-for": b"203.0.113.7"}
        if b"referer" in headers:
            told[b"referer"] = f"https://{sys.argv[3]}/".encode()
        super().__init__(command, rest, version, headers | told, data, father)


class Proxy(ReverseProxyResource):
    """Passes every path on."""

    proxyClientFactoryClass = Told

    def getChild(self, path, request):
        """Twisted's own name for what lies below."""
        below = super().getChild(path, request)
        return Proxy(below.host, below.port, below.path)


if __name__ == "__main__":
    reactor.listenTCP(int(sys.argv[1]), Site(Proxy("127.0.0.1", int(sys.argv[2]), b"")), interface="127.0.0.1")
    reactor.run()
