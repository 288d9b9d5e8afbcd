"""Every work in every format parses back, with two independent parsers, to what it was; hostile text too."""

import csv
import io
import json
import re
import shutil
import subprocess
import warnings
from importlib.util import find_spec
from pathlib import Path

import bibtexparser
import jsonschema
import pandas
import pybtex.database
import pytest
import rispy
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pylatexenc.latex2text import LatexNodes2Text

from catalog.models import Author, Authorship, Work
from exports import bibtex, bundle_plan, cff, csl, names, ris, styles, tex
from exports.citations import FORMATS
from exports.names import Name, split
from exports.reference import Reference, of_work
from readers.models import Collection, CollectionItem
from tests.waiting import allowed

# Of the package only the schema is used; to import it would need what it depends on.
CFFCONVERT = Path(find_spec("cffconvert").submodule_search_locations[0])
SCHEMA = json.loads((CFFCONVERT / "schemas" / "1.2.0" / "schema.json").read_text())
CSL_TYPES = {"article", "article-journal", "paper-conference", "post-weblog", "webpage", "manuscript", "dataset"}
CSL_FIELDS = {"id", "citation-key", "type", "title", "author", "issued", "container-title", "genre", "publisher",
              "number", "DOI", "URL", "abstract", "keyword", "note"}  # fmt: skip


def references() -> list[Reference]:
    return [of_work(work) for work in Work.objects.for_list().order_by("slug")]


def plain(text: str) -> str:
    """TeX as a reader sees it."""
    read = LatexNodes2Text(math_mode="verbatim").latex_to_text(text)
    return " ".join(read.replace("\u02c6", "^").replace("\u02dc", "~").split())


def people(reference: Reference) -> list[str]:
    return [name.literal or f"{name.family}|{name.given}" for name in reference.authors]


def by_pybtex(text: str) -> dict[str, tuple[dict, list[str]]]:
    found = pybtex.database.parse_string(text, "bibtex").entries
    result = {}
    for key, entry in found.items():
        authors = []
        for person in entry.persons.get("author", []):
            family = " ".join([*person.prelast_names, *person.last_names])
            given = " ".join([*person.first_names, *person.middle_names])
            authors.append(f"{plain(family)}|{plain(given)}" if given else plain(family))
        result[key] = ({name.lower(): value for name, value in entry.fields.items()}, authors)
    return result


def by_bibtexparser(text: str) -> dict[str, tuple[dict, list[str]]]:
    layers = [bibtexparser.middlewares.SeparateCoAuthors(), bibtexparser.middlewares.SplitNameParts()]
    library = bibtexparser.parse_string(text, append_middleware=layers)
    assert not library.failed_blocks
    result = {}
    for entry in library.entries:
        fields = {field.key.lower(): field.value for field in entry.fields}
        authors = []
        for person in fields.pop("author", []):
            family, given = " ".join([*person.von, *person.last]), " ".join(person.first)
            authors.append(f"{plain(family)}|{plain(given)}" if given else plain(family))
        result[entry.key] = (fields, authors)
    return result


def check_tex(text: str, wanted: list[Reference], parse, container: tuple[str, ...]) -> None:
    found = parse(text)
    assert list(found) == [r.key for r in wanted]
    for r in wanted:
        fields, authors = found[r.key]
        assert plain(fields["title"]) == " ".join(r.title.split()), r.key
        assert [a for a in authors if a != "others"] == people(r), r.key
        assert fields.get("doi", "") == r.doi and fields["url"] == r.url
        assert fields.get("eprint", "") == r.arxiv_id
        if r.container:
            assert plain(next(fields[name] for name in container if name in fields)).startswith(r.container), r.key


def test_bibtex_of_every_work(catalogue):
    wanted = references()
    text = "\n".join(bibtex.bibtex(r) for r in wanted)
    for parse in (by_pybtex, by_bibtexparser):
        check_tex(text, wanted, parse, ("booktitle", "journal", "howpublished", "note"))
    fields, _ = by_pybtex(text)["mqa"]
    assert fields["archiveprefix"] == "arXiv" and fields["doi"] == "10.48550/arXiv.1911.02150"
    assert fields["eprint"] == "1911.02150" and fields["year"] == "2019"


def test_biblatex_of_every_work_in_ascii(catalogue):
    wanted = references()
    text = "\n".join(bibtex.biblatex(r, ascii_only=True) for r in wanted)
    assert text.isascii() and "R{\\'{e}}" in text
    for parse in (by_pybtex, by_bibtexparser):
        check_tex(text, wanted, parse, ("booktitle", "journaltitle", "organization", "howpublished"))
    assert by_pybtex(text)["mqa"][0]["eprinttype"] == "arxiv" and by_pybtex(text)["mqa"][0]["date"] == "2019-11-06"


def test_ris_of_every_work(catalogue):
    wanted = references()
    text = "".join(ris.ris(r) for r in wanted)
    assert all(re.fullmatch(r"[A-Z][A-Z0-9]  - .*\r", line) for line in text.split("\n") if line)
    for r, entry in zip(wanted, rispy.loads(text), strict=True):
        assert entry["id"] == r.key and entry["title"] == r.title and entry.get("doi", "") == r.doi
        assert entry["authors"] == [name.inverted for name in r.authors] and entry["urls"] == [r.url]
    by_hand: list[dict[str, list[str]]] = []
    for line in text.split("\r\n"):
        tag, _, value = line.partition("  - ")
        if tag == "TY":
            by_hand.append({})
        if tag:
            by_hand[-1].setdefault(tag, []).append(value)
    assert [entry["TI"][0] for entry in by_hand] == [r.title for r in wanted]
    assert all(list(entry)[0] == "TY" and list(entry)[-1] == "ER" for entry in by_hand)


def test_csl_of_every_work_keeps_to_the_schema(catalogue):
    for r in references():
        item = csl.csl(r)
        assert item["type"] in CSL_TYPES and set(item) <= CSL_FIELDS and item["id"] == r.key
        assert all(set(author) <= {"family", "given", "suffix", "literal"} for author in item["author"])
        assert item["issued"]["date-parts"] == [r.date_parts]
        assert item["title"] == r.title


def test_cff_of_every_work_is_valid(catalogue):
    wanted = references()
    for chosen in ([wanted[0]], wanted):
        data = yaml.load(cff.cff(chosen), Loader=yaml.BaseLoader)
        typed = yaml.safe_load(cff.cff(chosen))
        jsonschema.validate(json.loads(json.dumps(typed, default=str)), SCHEMA)
        listed = data.get("references") or [data["preferred-citation"]]
        assert [item["title"] for item in listed] == [r.title for r in chosen]
    assert data["references"][0]["type"] == "conference-paper"


@pytest.mark.parametrize("title", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", '=HYPERLINK("http://x")'])
def test_no_cell_of_a_table_is_a_formula(catalogue, title):
    work = Work.objects.get(slug="vllm")
    Work.objects.filter(pk=work.pk).update(title=title, venue=title)
    (row,) = csv.DictReader(io.StringIO(FORMATS["csv"].write([Work.objects.for_list().get(pk=work.pk)], False)))
    assert row["title"] == row["venue"] == f"'{title}" and row["stars"].isdigit()


def test_csv_by_pandas_and_by_the_standard_library(catalogue):
    works = list(Work.objects.for_list().order_by("slug"))
    text = FORMATS["csv"].write(works, False)
    frame = pandas.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    for work, row, other in zip(works, frame.to_dict("records"), rows, strict=True):
        assert row == other and row["key"] == work.slug and row["title"] == work.title
        assert row["authors"].split("; ") == [a.author.name for a in work.authorships.all()]


def test_keys_are_ascii_unique_and_the_page_s_own(catalogue):
    keys = [r.key for r in references()]
    assert len(set(keys)) == len(keys) == 76 and all(re.fullmatch(r"[a-z0-9-]+", key) for key in keys)
    assert keys == sorted(Work.objects.values_list("slug", flat=True))


def test_no_title_stands_with_another_s_venue(catalogue):
    renamed = Work.objects.for_list().exclude(published_title="")
    assert renamed.count() == 10
    for work in renamed:
        r = of_work(work)
        assert (r.title, r.arxiv_id) == (work.published_title, "")
        assert work.title in r.note and work.arxiv_id in r.note and r.kind == "conference"
        assert str(r.year) in work.venue


def test_names_stay_whole():
    assert split("Reza Yazdani Aminabadi") == Name("Yazdani Aminabadi", "Reza")
    assert split("Mart van Baalen") == Name("van Baalen", "Mart")
    assert split("Michiel de Jong") == Name("de Jong", "Michiel")
    assert split("Sangeetha Abdu Jyothi") == Name("Abdu Jyothi", "Sangeetha")
    assert split("Cody Hao Yu") == Name("Yu", "Cody Hao")
    assert split("NVIDIA") == Name(literal="NVIDIA") and split("Supryadi") == Name(literal="Supryadi")
    assert split("John Smith Jr.") == Name("Smith", "John", suffix="Jr.")
    assert names.Name("van Baalen", "Mart").inverted == "van Baalen, Mart"


def test_titles_keep_their_capitals_and_their_maths():
    assert tex.title("LLM.int8(): 8-bit for Transformers") == "{LLM.int8()}: 8-bit for Transformers"
    assert tex.title("Self-attention Does Not Need O(n^2) Memory") == (
        r"Self-attention Does Not Need {O(n\textasciicircum{}2)} Memory"
    )
    assert tex.title("FlashAttention: IO-Awareness") == "{FlashAttention}: {IO}-Awareness"


def test_styles_name_who_what_and_where(catalogue):
    wanted = [r for r in references() if r.key in ("vllm", "tensorrt-llm", "mqa")]
    for style in styles.STYLES:
        lines = styles.formatted(wanted, style)
        assert len(lines) == 3 and all(any(r.title in line for line in lines) for r in wanted)
        assert any("SOSP 2023" in line for line in lines) and any("NVIDIA" in line for line in lines)


HOSTILE = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp"]), min_size=1)
TRICKY = st.lists(st.sampled_from(list("\\{}&%$#_~^@\"',;=- aZé0") + ["and ", "{", "}", "\\&"]), min_size=1).map(
    "".join
)


@settings(max_examples=150, deadline=None)
@given(st.one_of(HOSTILE, TRICKY), st.one_of(HOSTILE, TRICKY))
def test_hostile_text_survives(title, family):
    title, family = " ".join(title.split()) or "x", " ".join(family.split()) or "x"
    r = Reference("k", "conference", title, [Name(family, "Ann")], "https://example.org/a_b%20c?d=1&e=~#f", 2024,
                  container=title, doi="10.1/a_b%c", note=title)  # fmt: skip
    text = bibtex.bibtex(r)
    assert text.count("{") == text.count("}"), "balanced"
    entry = pybtex.database.parse_string(text, "bibtex").entries["k"]
    assert entry.fields["url"] == r.url and entry.fields["doi"] == r.doi
    library = bibtexparser.parse_string(text)
    assert not library.failed_blocks and library.entries[0].fields_dict["url"].value == r.url
    assert bibtex.biblatex(r, ascii_only=True).isascii()
    (record,) = rispy.loads(ris.ris(r))
    assert record["title"] == title and record["urls"] == [r.url]
    assert yaml.safe_load(cff.cff([r]))["title"] == title
    assert json.loads(json.dumps(csl.csl(r)))["title"] == title


def test_formats_that_take_a_whole_selection(catalogue, client):
    for name, chosen in FORMATS.items():
        response = client.get(f"/export/{name}/?category=kv-cache-schedulingquantizecompress")
        assert response.status_code in (200, 400), name
        response = client.get(f"/export/{name}/?q=attention")
        assert response.status_code == 200 and response["Content-Type"] == f"{chosen.media_type}; charset=utf-8"
        assert "attachment" in response["Content-Disposition"]
        again = client.get(f"/export/{name}/?q=attention", headers={"If-None-Match": response["ETag"]})
        assert again.status_code == 304


def test_hand_picked_works_keep_their_order(catalogue, client):
    text = client.get("/export/bibtex/?works=vllm,awq,mqa").content.decode()
    assert re.findall(r"^@\w+\{(.+),", text, re.M) == ["vllm", "awq", "mqa"]
    missing = client.get("/export/bibtex/?works=vllm,nothing")
    assert missing.status_code == 400 and "there is no nothing" in missing.content.decode()
    assert client.get("/export/bibtex/?year=soon").status_code == 400
    assert client.get("/export/word/?works=vllm").status_code == 404


def test_the_page_answers_in_what_is_asked_for(catalogue, client):
    assert client.get("/papers/vllm/")["Content-Type"].startswith("text/html")
    for name in ("bibtex", "ris", "csl", "biblatex", "cff"):
        response = client.get("/papers/vllm/", headers={"Accept": FORMATS[name].media_type})
        assert response["Content-Type"] == f"{FORMATS[name].media_type}; charset=utf-8", name
        assert "PagedAttention" in response.content.decode() and "Accept" in response["Vary"]
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    assert client.get("/papers/vllm/", headers={"Accept": browser})["Content-Type"].startswith("text/html")
    assert client.get("/papers/nothing/", headers={"Accept": "application/x-bibtex"}).status_code == 404


def test_an_imported_author_with_odd_characters_is_cited(catalogue, client):
    work = Work.objects.get(slug="vllm")
    Authorship.objects.create(work=work, author=Author.objects.create(name="Bob {Brace} & Sons"), position=99)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = client.get("/export/bibtex/?works=vllm").content.decode()
    assert r"Sons, Bob \textbraceleft{}Brace\textbraceright{} \&" in text


def test_the_api_gives_the_same(catalogue, client):
    page = client.get("/export/ris/?works=vllm,mqa").content
    answer = client.get("/api/v1/export/ris?works=vllm,mqa")
    assert answer.content == page and answer["Content-Type"].startswith("application/x-research-info-systems")
    assert client.get("/api/v1/works/vllm/citation?format=apa").content.decode().startswith("Kwon, W.")
    for address, status in (
        ("/api/v1/export/word", 404),
        ("/api/v1/works/vllm/citation?format=word", 422),
        ("/api/v1/works/nothing/citation", 404),
        ("/api/v1/export/bibtex?works=nothing", 422),
    ):
        problem = client.get(address)
        assert problem.status_code == status and problem["Content-Type"] == "application/problem+json"


@pytest.mark.skipif(not shutil.which("biber"), reason="biber is not on this machine (Debian: apt install biber)")
def test_biber_accepts_every_work(catalogue, tmp_path):
    """Biber checks each entry by its data model and writes what it understood."""
    wanted = references()
    for name, ascii_only in (("plain", False), ("ascii", True)):
        path = tmp_path / f"{name}.bib"
        path.write_text("\n".join(bibtex.biblatex(r, ascii_only=ascii_only) for r in wanted), encoding="utf-8")
        command = ["biber", "--tool", "--validate-datamodel", "--output-encoding=UTF-8", path.name]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=allowed(120))
        assert done.returncode == 0 and "WARN" not in done.stdout and "ERROR" not in done.stdout, done.stdout[-2000:]
        out = by_pybtex((tmp_path / f"{name}_bibertool.bib").read_text(encoding="utf-8"))
        assert {key: plain(fields["title"]) for key, (fields, _) in out.items()} == {r.key: r.title for r in wanted}


def test_a_collection_leaves_in_its_own_order(catalogue, client, django_user_model):
    owner = django_user_model.objects.create_user("owner")
    own = Collection.objects.create(owner=owner, name="Mine")
    for position, slug in enumerate(("vllm", "awq", "mqa")):
        CollectionItem.objects.create(collection=own, work=Work.objects.get(slug=slug), position=position)
    address = f"/export/bibtex/?collection={own.pk}"
    assert client.get(address).status_code == 400, "another's private collection"
    client.force_login(owner)
    assert re.findall(r"^@\w+\{(.+),", client.get(address).content.decode(), re.M) == ["vllm", "awq", "mqa"]
    by_title = client.get(f"{address}&sort=title").content.decode()
    assert re.findall(r"^@\w+\{(.+),", by_title, re.M) == ["awq", "vllm", "mqa"]


def test_a_bundle_keeps_a_hand_picked_order(catalogue):
    made = bundle_plan.plan("report", "works=vllm,awq,mqa")
    assert [item.slug for item in made.items] == ["vllm", "awq", "mqa"] and made.selection == "picked by hand"
    with pytest.raises(bundle_plan.NotUnderstood, match="there is no nothing"):
        bundle_plan.plan("report", "works=vllm,nothing")
