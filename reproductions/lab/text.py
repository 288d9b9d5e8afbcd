"""The English texts that perplexities are measured on; `data/README.md` says where each comes from."""

import gzip
from pathlib import Path

DATA = Path(__file__).parent / "data"
DEFAULT = "moby-dick"


def names() -> list[str]:
    """The texts that are shipped."""
    return sorted(path.name.removesuffix(".txt.gz") for path in DATA.glob("*.txt.gz"))


def load(name: str | None = None) -> str:
    """One whole text, the default one without a name; LookupError names the ones there are."""
    name = name or DEFAULT
    if name not in names():
        raise LookupError(f"no text {name!r}; there are: {', '.join(names())}")
    return gzip.decompress((DATA / f"{name}.txt.gz").read_bytes()).decode("utf-8")
