"""Names in parts, as citation formats want them: family, given, or one name that stays whole."""

from typing import NamedTuple

# Words that belong to the family name they stand before, in any letter case.
PARTICLES = {"van", "von", "der", "den", "de", "del", "della", "di", "da", "dos", "du", "la", "le", "ter", "ten", "bin",
             "al", "el", "zu", "af"}  # fmt: skip
# Family names of several words that no rule can tell from given names.
COMPOUND = {"Yazdani Aminabadi", "Abdu Jyothi"}
ORGANISATIONS = {"NVIDIA", "HPC4AI"}
SUFFIXES = {"jr", "jr.", "sr", "sr.", "ii", "iii", "iv"}


class Name(NamedTuple):
    """A person's family and given names, or `literal`: an organisation or a name of one word."""

    family: str = ""
    given: str = ""
    literal: str = ""
    suffix: str = ""

    @property
    def inverted(self) -> str:
        """ "Aminabadi, Reza": the form that files carry; a literal as it is."""
        if self.literal:
            return self.literal
        return ", ".join(part for part in (self.family, self.suffix, self.given) if part)


def split(name: str) -> Name:
    """The parts of a name that is written given names first."""
    words = name.split()
    if len(words) < 2 or name in ORGANISATIONS:
        return Name(literal=" ".join(words))
    suffix = words.pop() if words[-1].lower() in SUFFIXES and len(words) > 2 else ""
    start = len(words) - 1
    if start > 1 and " ".join(words[-2:]) in COMPOUND:
        start -= 1
    while start > 1 and words[start - 1].lower() in PARTICLES:
        start -= 1
    return Name(family=" ".join(words[start:]), given=" ".join(words[:start]), suffix=suffix)
