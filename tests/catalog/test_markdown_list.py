"""Lists as people keep them: what is read of each shape, and that no row is lost without a word."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from catalog import addresses
from catalog.markdown_list import looks_like_entry, parse
from catalog.markdown_rows import Row

LIST = Path(__file__).resolve().parents[3] / "shared" / "list" / "Awesome-LLM-Inference.md"
HEAD = "|Date|Title|Paper|Code|Recommend|\n|:---:|:---:|:---:|:---:|:---:|\n"
GPTQ = "https://arxiv.org/abs/2210.17323"
CODE = "https://github.com/a/b"
DAO_GU = ("Tri Dao", "Albert Gu")


def only(text: str) -> Row:
    """The one row of a list that is understood whole."""
    parsed = parse(text)
    assert parsed.missed == [] and len(parsed.rows) == 1, parsed
    return parsed.rows[0]


def links(row: Row) -> list[tuple[str, str]]:
    return [(link.role, link.url) for link in row.links]


def test_the_curated_list_is_read_whole():
    if not LIST.exists():
        pytest.skip("the curated list does not lie beside the project")
    parsed = parse(LIST.read_text(encoding="utf-8"))
    assert len(parsed.rows) == 84 and parsed.missed == []
    assert len({row.category for row in parsed.rows}) == 12
    assert parsed.rows[0].category == ("LLM Algorithmic/Eval Survey",)
    assert not any(row.unkept or row.venue or row.authors for row in parsed.rows)


class TestTables:
    """Rows of tables."""

    def test_the_columns_of_the_curated_list(self):
        row = only(
            f"## 📖Quantize ([©️back👆🏻](#paperlist))  \n\n{HEAD}"
            f"|2022.10|🔥🔥[**GPTQ**] GPTQ: ACCURATE  QUANTIZATION |[[pdf]](https://arxiv.org/pdf/2210.17323.pdf) |"
            f"[[gptq]]({CODE}) ![](https://img.shields.io/github/stars/IST-DASLab/gptq.svg)|⭐️⭐️ |"
        )
        assert (row.line, row.category, row.month) == (5, ("Quantize",), "2022-10")
        assert (row.tag, row.bold, row.title) == ("GPTQ", True, "GPTQ: ACCURATE QUANTIZATION")
        assert (row.highlights, row.stars) == (2, 2)
        assert [(link.role, link.label) for link in row.links] == [("paper", "pdf"), ("code", "gptq")]

    @pytest.mark.parametrize(
        ("header", "cells"),
        [
            ("Code|Venue|Title|Paper", f"[c](https://github.com/a/b)|ICLR 2023|A Good Title|[arXiv]({GPTQ})"),
            ("Paper|Year|Repo", f"[A Good Title]({GPTQ})|2023|[![Stars](https://x.y/s.svg)](https://github.com/a/b)"),
            (
                "Institution|Paper Title|TL;DR|Date|Links",
                f"ETH|A Good Title|it works|2023|[p]({GPTQ}) https://github.com/a/b",
            ),
            ("标题|论文|代码|日期", f"A Good Title|[论文]({GPTQ})|[代码](https://github.com/a/b)|2023年"),
            ("a|b|c", f"A Good Title|[[pdf]]({GPTQ}) [code](https://github.com/a/b)|2023"),
        ],
    )
    def test_any_order_and_set_of_columns(self, header, cells):
        rule = "|".join("-" for _ in header.split("|"))
        row = only(f"# T\n|{header}|\n|{rule}|\n|{cells}|")
        assert (row.title, row.month) == ("A Good Title", "2023")
        assert links(row) == [("paper", GPTQ), ("code", "https://github.com/a/b")]

    def test_columns_without_a_place_are_told(self):
        row = only(f"|Title|Paper|TL;DR|\n|-|-|-|\n|A Title|[p]({GPTQ})|fast and small|")
        assert row.unkept == ("TL;DR: fast and small",)

    def test_too_few_cells(self):
        assert only(f"{HEAD}|2023.10|A Title|[p]({GPTQ})|").title == "A Title"
        assert links(only(f"{HEAD}|2023.10|[A Title]({GPTQ})")) == [("paper", GPTQ)]

    def test_too_many_cells_keep_their_links(self):
        row = only(f"{HEAD}|2023.10|A Title|[p]({GPTQ})|⚠️|⭐|[code](https://github.com/a/b)|")
        assert links(row) == [("paper", GPTQ), ("code", "https://github.com/a/b")]

    def test_pipes_in_a_title(self):
        assert only(f"{HEAD}|2023.10|P(x \\| y) holds|[p]({GPTQ})|⚠️|⭐|").title == "P(x | y) holds"
        row = only(f"{HEAD}|2023.10|Left | Right|[p]({GPTQ})|⚠️|⭐|")
        assert (row.title, row.stars, links(row)) == ("Left | Right", 1, [("paper", GPTQ)])

    def test_lines_within_a_cell(self):
        row = only(
            f"|Title|Venue|\n|-|-|\n|<b>[A Long Title]({GPTQ})</b><br>Tri Dao, Albert Gu <br/>"
            "<img src='https://img.shields.io/x'>|ICLR 2024|"
        )
        assert (row.title, row.authors, row.venue, row.month) == (
            "A Long Title",
            ("Tri Dao", "Albert Gu"),
            "ICLR 2024",
            "2024",
        )

    def test_html_links_and_star_images(self):
        row = only(
            "|Title|Paper|Rating|\n|-|-|-|\n"
            f'|A Title|<a href="{GPTQ}">pdf</a>|<img src="i/star.png"> ![star](star.png)|'
        )
        assert (row.stars, links(row)) == (2, [("paper", GPTQ)])

    def test_github_counts_are_no_rating(self):
        assert only(f"|Title|Stars|\n|-|-|\n|[A Title]({GPTQ})|9.1k|").stars == 0
        assert only(f"|Title|Rating|\n|-|-|\n|[A Title]({GPTQ})|4/5|").stars == 4

    def test_a_table_with_a_hole_goes_on(self):
        parsed = parse(f"{HEAD}|2023.10|One|[p]({GPTQ})|⚠️|⭐|\n\n|2023.11|Two|[p](https://a.b/c)|⚠️|⭐|\n")
        assert [(row.line, row.title, row.month) for row in parsed.rows] == [
            (3, "One", "2023-10"),
            (5, "Two", "2023-11"),
        ]

    def test_crlf_and_a_byte_order_mark(self):
        text = f"\ufeff# T\n\n{HEAD}|2023.10|A Title|[p]({GPTQ})|⚠️|⭐|\n"
        assert only(text.replace("\n", "\r\n")) == only(text)

    def test_empty_links_leave_a_title(self):
        row = only(f"{HEAD}|2023.10|A Title|[[pdf]]()|[]()|⭐|")
        assert (row.title, row.links) == ("A Title", ())

    def test_rows_that_say_nothing_and_tables_of_something_else(self):
        assert parse(f"{HEAD}| | | | | |\n").rows == []
        assert parse("|Option|Meaning|\n|-|-|\n|a|b|\n") == parse("")


class TestLists:
    """Bullets and numbers."""

    @pytest.mark.parametrize(
        ("item", "authors"),
        [
            (
                f"- [A Good Title]({GPTQ}), Guangxuan Xiao et al. [[Paper]]({GPTQ}v2) [[Code]]({CODE})",
                ("Guangxuan Xiao",),
            ),
            (f"* **A Good Title** <br>\n  Tri Dao, Albert Gu <br>\n  [[Paper]]({GPTQ}) [[Code]]({CODE})", DAO_GU),
            (f"* **A Good Title**\n  - Authors: Tri Dao\n  - [Paper]({GPTQ})\n  - [Code]({CODE})", ("Tri Dao",)),
            (f"1. [[Paper]]({GPTQ}) [[Code]]({CODE}) A Good Title", ()),
            (f"2) A Good Title, Tri Dao et al. [pdf]({GPTQ}), [code]({CODE})", ("Tri Dao",)),
            (f"- Tri Dao, Albert Gu. “A Good Title”. [pdf]({GPTQ}) [code]({CODE})", DAO_GU),
            (f"- [ ] [**A Good Title**](<{GPTQ}>) - Tri Dao and Albert Gu [code]({CODE})", DAO_GU),
            (f'- <a href="{GPTQ}">A Good Title</a> · [GitHub]({CODE})', ()),
            (f"- 《A Good Title》，作者：张三、李四 [论文]({GPTQ}) [代码]({CODE})", ("张三", "李四")),
        ],
    )
    def test_titles_people_and_links(self, item, authors):
        row = only(f"# L\n\n## C\n\n{item}\n")
        assert (row.title, row.authors) == ("A Good Title", authors)
        assert links(row) == [("paper", row.links[0].url), ("code", "https://github.com/a/b")]
        assert addresses.key(row.links[0].url) == "arxiv:2210.17323"

    @pytest.mark.parametrize(
        ("item", "tag", "bold", "month", "venue"),
        [
            (f"- [2023.10] [GPTQ] A Title [pdf]({GPTQ})", "GPTQ", False, "2023-10", ""),
            (f"- (Oct 2023) **[GPTQ]** A Title [pdf]({GPTQ})", "GPTQ", True, "2023-10", ""),
            (f"- **GPTQ**: [A Title]({GPTQ}) (ICLR 2023)", "GPTQ", True, "2023", "ICLR 2023"),
            (f"- `[OSDI'22]` [A Title]({GPTQ})", "", False, "2022", "OSDI'22"),
            (f"- 【GPTQ】A Title，2023/10 [论文]({GPTQ})", "GPTQ", False, "2023-10", ""),
            (f"- 🔥 [A Title]({GPTQ}) ⭐⭐", "", False, "", ""),
        ],
    )
    def test_tags_dates_and_venues(self, item, tag, bold, month, venue):
        row = only(item)
        assert row.title.startswith("A Title")
        assert (row.tag, row.bold, row.month, row.venue) == (tag, bold, month, venue)

    def test_groups_become_categories(self):
        text = f"# L\n## Decoding\n- Speculative\n  - [One]({GPTQ})\n- Parallel\n  - [Two](https://a.b/c)\n"
        text += "## Rest\n- [Three](https://a.b/d)\n"
        assert [(row.title, row.category) for row in parse(text).rows] == [
            ("One", ("Decoding", "Speculative")),
            ("Two", ("Decoding", "Parallel")),
            ("Three", ("Rest",)),
        ]

    def test_headings_of_several_levels(self):
        table = f"|Title|Paper|\n|-|-|\n|T|[p]({GPTQ})|\n"
        text = f"# L\n## A\n### A1\n{table}\n#### A1x\n{table}\n## B\n{table}\n"
        text += f"<details><summary>C</summary>\n\n{table}</details>\n"
        assert [row.category for row in parse(text).rows] == [("A", "A1"), ("A", "A1", "A1x"), ("B",), ("B", "C")]

    def test_contents_are_no_entries(self):
        assert parse("## Contents\n- [One](#one)\n  - [Two](#two)\n") == parse("")

    def test_what_markdown_swallows_is_read(self):
        rows = parse(
            f"- [One Title]({GPTQ})\n3. [Two Titles](https://a.b/c)\n\nwords\n2. [Three Titles](https://a.b/d)\n"
        ).rows
        assert [(row.line, row.title) for row in rows] == [(1, "One Title"), (2, "Two Titles"), (5, "Three Titles")]


class TestReported:
    """What is not read is told with its line and the reason."""

    @pytest.mark.parametrize(
        ("text", "line", "reason"),
        [
            (f"<div>\n|2023|A|[p]({GPTQ})|\n</div>", 2, "inside HTML"),
            (f"<table><tr>\n<td><a href='{GPTQ}'>T</a></td></tr></table>", 2, "inside HTML"),
            (f"```\n- [A]({GPTQ})\n```", 2, "inside a code block"),
            (f"words\n\n    - [A]({GPTQ})", 3, "inside a code block"),
            (f"|2023|A|[p]({GPTQ})|\n", 1, "without the line"),
            (f"## Contributing\n- [A]({GPTQ})", 2, "under the heading “Contributing”"),
            ("- [A](./a.pdf)", 1, "no address on the web"),
            ("- [A](javascript:alert(1))", 1, "no address on the web"),
            (f"{HEAD}|2023.10| | | |⭐|", 3, "neither a title nor a link"),
        ],
    )
    def test_with_line_and_reason(self, text, line, reason):
        parsed = parse(text)
        assert parsed.rows == []
        assert [(missed.line, reason in missed.reason) for missed in parsed.missed] == [(line, True)]

    def test_more_than_five_stars_are_told(self):
        assert only(f"- [A Title]({GPTQ}) ⭐⭐⭐⭐⭐⭐⭐").unkept == ("7 stars, read as 5",)


class TestLinks:
    """Addresses and what they lead to."""

    @pytest.mark.parametrize(
        ("url", "key"),
        [
            ("https://arxiv.org/abs/2309.17453v3", "arxiv:2309.17453"),
            ("https://browse.arxiv.org/pdf/2309.17453.pdf", "arxiv:2309.17453"),
            ("http://cn.arxiv.org/pdf/2309.17453v2", "arxiv:2309.17453"),
            ("https://ar5iv.labs.arxiv.org/html/2309.17453", "arxiv:2309.17453"),
            ("https://huggingface.co/papers/2309.17453", "arxiv:2309.17453"),
            ("https://www.alphaxiv.org/abs/2309.17453v1", "arxiv:2309.17453"),
            ("https://doi.org/10.48550/arXiv.2309.17453", "arxiv:2309.17453"),
            ("https://arxiv.org/pdf/hep-th/9901001v2", "arxiv:hep-th/9901001"),
            ("https://openreview.net/pdf?id=abC", "openreview:abC"),
            ("https://openreview.net/forum?id=abC&noteId=1", "openreview:abC"),
            ("https://aclanthology.org/2021.eacl-main.8.pdf", "acl:2021.eacl-main.8"),
            ("https://www.aclweb.org/anthology/2021.eacl-main.8/", "acl:2021.eacl-main.8"),
            ("https://doi.org/10.18653/v1/2021.eacl-main.8", "acl:2021.eacl-main.8"),
            ("https://dl.acm.org/doi/pdf/10.1145/3600006.3613165", "doi:10.1145/3600006.3613165"),
            ("https://doi.org/10.1145/3600006.3613165", "doi:10.1145/3600006.3613165"),
            ("http://www.github.com/A/B.git", "url:github.com/a/b"),
            ("https://le.qun.ch/en/blog/?utm_source=x#page=2", "url:le.qun.ch/en/blog"),
            ("http://[::1", "url:http://[::1"),
        ],
    )
    def test_one_key_for_one_work(self, url, key):
        assert addresses.key(url) == key

    def test_the_same_id_twice_in_a_row_is_one_link(self):
        row = only(
            f"- [A Title]({GPTQ}) [[pdf]](https://arxiv.org/pdf/2210.17323v2.pdf) "
            "[[html]](https://arxiv.org/html/2210.17323)"
        )
        assert links(row) == [("paper", GPTQ)]

    def test_a_blog_on_github_in_the_paper_column_is_the_paper(self):
        row = only(
            f"{HEAD}|2023.11|A Title|[[blog]](https://github.com/a/b/tree/m/blogs)|[[b]](https://github.com/a/b)|⭐|"
        )
        assert [link.role for link in row.links] == ["paper", "code"]

    def test_a_work_that_is_only_code(self):
        assert links(only("- [A Tool](https://github.com/a/b) - does things")) == [("paper", "https://github.com/a/b")]


PIECES = st.sampled_from(
    ["- ", "* ", "1. ", "  ", "    ", "\t", "> ", "|", "\\|", "|---|", ":--:", "\n", "\n\n", "\r\n", "## H\n", "**",
     "_", "`", "```\n", "~~", "[", "]", "(", ")", "[x](", "[[pdf]](https://arxiv.org/abs/2210.17323)", "\\", "$", "{",
     "[Title](https://a.b/c)", "[]()", "![](https://s.io/a.svg)", "https://a.b/d", "<br>", "<div>", "</div>", "<!--",
     "-->", "<details><summary>S</summary>", "<a href='https://q.r'>", "</a>", "<td>", "<b>", "&amp;", "🔥", "⭐️",
     "论文，", "。", "2023.10", "Title Words Here", "et al.", "\x00", "\ue000", "\ue100", "\u200b", "===\n", "---\n",
     "|Date|Title|Paper|\n|-|-|-|\n"]
)  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(PIECES, st.text(max_size=6)), max_size=60).map("".join))
@example("- [a](https://a.b)\n1)\t|x|[b](https://c.d)|")
@example("> - [Title](https://a.b/c)\n    - [Title](https://a.b/c)\n> > |[x](https://a.b/d)|y|")
def test_no_line_of_mangled_markdown_is_lost_without_a_word(text):
    parsed = parse(text)
    told = {row.line for row in parsed.rows} | {missed.line for missed in parsed.missed}
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, start=1):
        if looks_like_entry(line) and number not in told:
            before = max((n for n in told if n < number), default=None)
            assert before is not None, (number, line)
            holding = [row for row in parsed.rows if row.line == before]
            assert holding or any(m.line == before for m in parsed.missed), (number, line)
    assert all(row.title or row.links for row in parsed.rows)
    assert all(1 <= line <= len(lines) for line in told)
