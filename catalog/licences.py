"""The licences that authors give arXiv: what they are called, and whether a copy may be passed on."""

import re

CREATIVE = re.compile(r"https?://creativecommons\.org/licenses/(?P<terms>[a-z-]+)/(?P<version>[\d.]+)/?", re.IGNORECASE)
ZERO = re.compile(r"https?://creativecommons\.org/(?:publicdomain/zero/|licenses/publicdomain)", re.IGNORECASE)
ARXIV = re.compile(r"https?://arxiv\.org/licenses/nonexclusive-distrib/(?P<version>[\d.]+)/?", re.IGNORECASE)


def name(url: str) -> str:
    """CC BY 4.0, CC0, arXiv's non-exclusive licence 1.0, or the address itself."""
    if found := CREATIVE.fullmatch(url):
        return f"CC {found['terms'].upper()} {found['version']}"
    if ZERO.match(url):
        return "CC0"
    if found := ARXIV.fullmatch(url):
        return f"arXiv's non-exclusive licence {found['version']}"
    return url


def may_pass_on(url: str) -> bool:
    """Whether anybody may pass on unchanged copies, without charge and with the authors named."""
    return bool(CREATIVE.fullmatch(url) or ZERO.match(url))
