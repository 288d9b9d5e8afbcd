"""The list as Markdown, from the command line: all of it comes back unchanged, and a selection is a part of it."""

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from catalog import imports
from catalog.models import Category, Entry, Link, Work
from exports import markdown

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def listed(catalogue):
    """The bundled list."""


def state() -> list:
    """All that a list could change."""
    models = (Work, Entry, Link, Category)
    return [list(model.objects.order_by("pk").values()) for model in models]


def export(tmp_path, *words: str) -> str:
    call_command("export", *words, "-o", str(tmp_path / "out"))
    return (tmp_path / "out").read_text()


def test_out_and_in_again_changes_nothing(tmp_path):
    before = state()
    text = export(tmp_path, "markdown")
    plan = imports.plan(text)
    assert plan.counts == {
        "rows_read": 84, "created": 0, "updated": 0, "unchanged": 76, "questions": 0, "not_understood": 0,
    }  # fmt: skip
    imports.apply(plan)
    assert state() == before and export(tmp_path, "markdown") == text


@pytest.mark.parametrize("query", ["?topic=pruning", "topic:pruning", "topic=pruning&sort=title", "q=topic:pruning"])
def test_a_query_selects_in_an_address_s_words_or_the_box_s(tmp_path, query):
    wanted = Work.objects.filter(topics__name="pruning")
    text = export(tmp_path, "markdown", "--query", query)
    rows = {item.slug for item in imports.plan(text).items}
    assert rows == set(wanted.values_list("slug", flat=True)) and rows
    assert export(tmp_path, "bibtex", "--query", query).count("\n}") == len(rows)


def test_an_empty_selection_is_an_empty_list(tmp_path):
    assert imports.plan(export(tmp_path, "markdown", "--query", "year=1999")).items == []
    assert export(tmp_path, "bibtex", "--query", "year=1999") == ""


@pytest.mark.parametrize("query", ["year=soon", "?colour=red", "year:soon", "collection=12345"])
def test_what_a_query_cannot_mean_is_an_error(tmp_path, query):
    with pytest.raises(CommandError) as caught:
        call_command("export", "markdown", "--query", query, "-o", str(tmp_path / "out"))
    assert caught.value.returncode == 2 and "--query:" in str(caught.value) and not (tmp_path / "out").exists()


def test_markdown_keeps_what_looks_like_markup():
    entry = Entry.objects.first()
    entry.title = "A | *b* <i> [c](d) `e` \\ f_g_"
    entry.save()
    assert imports.plan(markdown.whole()).counts["not_understood"] == 0
    assert not imports.plan(markdown.whole()).writes
