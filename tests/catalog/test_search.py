"""What a line in the search box finds, and what it says of what it did not understand. On both databases."""

import math
import os
from pathlib import Path

import pytest
import yaml
from django.core.management import call_command
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog import index, query, words
from catalog.listing import Listing
from catalog.models import Authorship, Work
from catalog.search import find
from catalog.selection import Selection

JUDGED = yaml.safe_load((Path(__file__).parent / "judged.yaml").read_text())

pytestmark = pytest.mark.usefixtures("catalogue")


def slugs(line: str, **filters: str) -> list[str]:
    """The works of a line in order."""
    found = Listing(Selection(q=line, filters=filters)).order().tolist()
    by_pk = dict(Work.objects.filter(pk__in=found).values_list("pk", "slug"))
    return [by_pk[pk] for pk in found]


def ndcg(line: str, grades: dict[int, list[str]], top: int = 10) -> float:
    gains = {slug: 2**grade - 1 for grade, names in grades.items() for slug in names}
    found = sum(gains.get(slug, 0) / math.log2(i + 2) for i, slug in enumerate(slugs(line)[:top]))
    ideal = sum(g / math.log2(i + 2) for i, g in enumerate(sorted(gains.values(), reverse=True)[:top]))
    return found / ideal


def test_it_runs_on_the_database_it_was_asked_to_run_on():
    assert connection.vendor == ("postgresql" if "postgres" in os.environ.get("DATABASE_URL", "") else "sqlite")


def test_people_find_what_they_look_for():
    scores = {line: ndcg(str(line), grades) for line, grades in JUDGED.items()}
    assert len(scores) >= 60
    assert sum(scores.values()) / len(scores) >= 0.90, sorted(scores.items(), key=lambda pair: pair[1])[:15]


def test_the_judged_works_are_works():
    named = {slug for grades in JUDGED.values() for names in grades.values() for slug in names}
    assert named <= set(Work.objects.values_list("slug", flat=True))


@pytest.mark.parametrize(
    ("line", "same"),
    [
        ("Re", "Ré"),
        ("FLASHATTENTION", "flashattention"),
        ("kv-cache", "KV cache"),
    ],
)
def test_lines_that_mean_the_same(line, same):
    assert slugs(line) == slugs(same) != []


def test_words_of_one_stem_find_the_same_works():
    assert set(slugs("decodes ")) == set(slugs("decoding ")) != set()


def test_prefixes_while_typing_and_whole_words_after_a_space():
    assert "flashattention" in slugs("flashatt")
    assert slugs("flashattentio ") and "instead of" in find("flashattentio ").notes[0]


def test_phrases_and_words_that_must_not_be_there():
    assert "vllm" in slugs('"large language model serving"')
    assert slugs('"serving model language"') == []
    everything, without = set(slugs("quantization")), set(slugs("quantization -fp8"))
    assert without < everything and "fp8-quantization" in everything - without
    assert len(slugs('-"kv cache"')) == 76 - len(slugs('"kv cache"'))


@pytest.mark.parametrize(
    ("line", "holds"),
    [
        ("author:dao year:2023", {"flashattention-2", "mamba", "flash-decoding"}),
        ('category:"KV cache"', {"h2o", "gqa"}),
        ("topic:pruning", {"sparsegpt", "sheared-llama"}),
        ("kind:survey", {"efficient-llms-survey"}),
        ("runnable:no year:2018-2019", {"mqa"}),
        ("from:2022 to:2022", {"flashattention", "orca"}),
    ],
)
def test_field_words(line, holds):
    found = slugs(line)
    assert holds <= set(found) and len(found) < 30 and not find(line).problems


def test_stars_code_and_flames_agree_with_the_list():
    starred = Work.objects.filter(entries__stars__gte=2).distinct().count()
    assert len(slugs("stars:2")) == starred
    coded = Work.objects.filter(entries__links__role="code").distinct().count()
    assert len(slugs("code:yes")) == coded and len(slugs("code:no")) == 76 - coded
    assert len(slugs("highlight:yes")) == Work.objects.filter(entries__highlights__gt=0).distinct().count()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("year:soon", "year in the box: expected a year"),
        ("stars:9 mamba", "stars in the box: expected a number from 0 to 5"),
        ("colour:red", "“colour:” is no field"),
        ("author:", "“author:” has no value"),
        ("author:dao author:fu", "given twice"),
        ("-author:dao", "cannot be left out"),
        ("!!! ???", "holds nothing to search for"),
        ("2312.99999", "no work of this list has the arXiv id"),
        (" ".join(["attention"] + [f"w{i}" for i in range(40)]), "only the first 20 words"),
    ],
)
def test_what_is_not_understood_is_said(line, said):
    assert said in " ".join(Listing(Selection(q=line)).chosen.problems)


def test_words_that_no_work_has_all_of_find_those_with_some():
    found = find("rotary preemptible ")
    assert "some" in found.notes[0] and {"rope", "spotserve"} <= set(slugs("rotary preemptible "))


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60))
def test_no_line_breaks_it(line):
    found = Listing(Selection(q=line))
    assert 0 <= found.work_count <= 76 and len(found.order()) == found.work_count


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from([*"\"-:*()^{}~|&!<>\\%_'", "AND", "OR", "NOT", "NEAR", "author", "kv", "cache", " "]),
        max_size=12,
    )
)
def test_no_operator_of_an_engine_gets_through(parts):
    assert Listing(Selection(q="".join(parts))).work_count >= 0


@given(st.text(max_size=80))
def test_folding_twice_is_folding_once(text):
    assert words.words(" ".join(words.words(text))) == words.words(text)
    parsed = query.parse(text)
    assert all(word == words.fold(word) for word in parsed.words)


def test_a_changed_work_is_found_by_its_new_words_only():
    work = Work.objects.get(slug="mamba")
    Work.objects.filter(pk=work.pk).update(title="Zebrafish: a serpent renamed")
    Authorship.objects.filter(work=work).delete()
    index.refresh([work.pk])
    assert slugs("zebrafish") == ["mamba"] == slugs("zebrafihs ")
    assert "mamba" not in slugs("author:gu")
    work.delete()
    index.refresh([work.pk])
    assert slugs('"zebrafish"') == []


def test_loading_again_changes_no_index():
    from catalog.models import SearchVersion

    before = SearchVersion.objects.get().number
    call_command("load_catalog", verbosity=0)
    assert SearchVersion.objects.get().number == before
