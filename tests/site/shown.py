"""What a visitor reads."""

import re


def text(response) -> str:
    """A page's words, without its tags."""
    return " ".join(re.sub(r"<[^>]*>", " ", response.content.decode()).split())
