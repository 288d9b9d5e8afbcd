"""Text and links that somebody else wrote: what hides or pretends is found, everything else stays as it is."""

import unicodedata
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.middleware import TURNING
from config.text import HIDDEN, NotPlain, clean_link, cleaned, plain_link, visible

TURNERS = [chr(c) for c in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))]
OTHERS = ["\0", "\x1b", "\x7f", "\x85", "\x9b", "\u2028", "\u2029", "\u200b", "\u2060", "\ufeff", "\U000e0041"]
LEGITIMATE = [
    "नेपाली‍भाषा", "می‌خواهم", "👩‍💻 ❤️", "O(n²) → α–β, “quoted” … 推理", "שלום \u200fABC", "$\\sqrt{d_k}$ & {x}", "naïve",
]  # fmt: skip


@pytest.mark.parametrize("hidden", [*TURNERS, *OTHERS])
def test_what_hides_is_named_refused_and_taken_away(hidden):
    with pytest.raises(NotPlain, match=f"U\\+{ord(hidden):04X}"):
        visible(f"Attention {hidden}is all")
    assert cleaned(f"Attention {hidden}is all").split() == ["Attention", "is", "all"]


@pytest.mark.parametrize("text", LEGITIMATE)
def test_writing_stays_as_it_is(text):
    assert visible(text) == cleaned(text) == text


def test_lines_are_for_prose():
    assert visible("one\r\n\ttwo", lines=True)
    for end in "\r\n\t":
        with pytest.raises(NotPlain):
            visible(f"one{end}two")


@given(st.text())
def test_cleaned_text_is_visible_and_cleaned_once(text):
    once = cleaned(text)
    assert visible(once, lines=True) == once == cleaned(once)
    assert [c for c in once if not c.isspace()] == [c for c in text if not HIDDEN.match(c) and not c.isspace()]


@given(st.text())
def test_an_answer_turns_nothing_and_stays_utf8(text):
    data = TURNING.sub("\ufffd".encode(), text.encode(errors="ignore")).decode()
    assert not any(unicodedata.bidirectional(c) in ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI")
                   for c in data)  # fmt: skip


LINKS = {
    "https://example.org/a?b=c#d": "https://example.org/a?b=c#d",
    "https://user:pw@example.org/": "https://example.org/",
    "https://github.com@evil.example/x": "https://evil.example/x",
    "https://аpple.com/": "https://xn--pple-43d.com/",
    "https://bücher.example:8443/ü": "https://xn--bcher-kva.example:8443/ü",
    "http://[2001:db8::1]:80/": "http://[2001:db8::1]:80/",
    "https://github.com\\@evil.example/": "",
    "java\nscript:alert(1)": "",
    "javascript:alert(1)": "",
    "data:text/html,x": "",
    "//example.org/": "",
    "https:///x": "",
    "https://a:99999/": "",
    "https://exa%6dple.org/": "",
    "https://exam\u202eple.org/": "https://example.org/",
}


@pytest.mark.parametrize(("url", "clean"), LINKS.items())
def test_a_link_leads_where_it_seems_to(url, clean):
    assert clean_link(url) == clean
    if "@" in url or not clean or "\u202e" in url:
        with pytest.raises(NotPlain):
            plain_link(url)
    else:
        assert plain_link(url) == clean


def test_a_very_long_link_is_refused_with_its_length():
    with pytest.raises(NotPlain, match="at most 400 characters, got 5012"):
        plain_link("https://a.b/" + "x" * 5000)


@given(st.text(max_size=60) | st.from_regex(r"https?://[^/]{1,20}(@[^/]{1,20})?/\w*", fullmatch=True))
def test_a_clean_link_is_plain(text):
    if found := clean_link(text):
        assert plain_link(found) == found == clean_link(found)
        place = urlsplit(found).netloc
        assert found.lower().startswith(("http://", "https://")) and place.isascii()
        assert "@" not in place and "\\" not in found
