"""The English texts that perplexities are measured on."""

import gzip

from reproductions import data_files

TEXTS = {"moby-dick": data_files.shipped("moby-dick.txt.gz")}
DEFAULT = "moby-dick"


def load(name: str | None = None) -> str:
    """One whole text, the default one without a name; LookupError names the ones there are."""
    name = name or DEFAULT
    if name not in TEXTS:
        raise LookupError(f"no text {name!r}; there are: {', '.join(TEXTS)}")
    return gzip.decompress(TEXTS[name].read_bytes()).decode("utf-8")
