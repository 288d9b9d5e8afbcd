"""What programs read in our pages, against the written rules of those who read it."""

import html
import json
import re
from urllib.parse import parse_qs
from xml.etree import ElementTree

import pytest

from catalog.models import Work

HEAD = re.compile(r'<meta name="([^"]+)" content="([^"]*)">')


def tags(client, slug: str) -> list[tuple[str, str]]:
    page = client.get(f"/papers/{slug}/").content.decode()
    return [(name, html.unescape(content)) for name, content in HEAD.findall(page)]


@pytest.mark.parametrize(
    ("slug", "kind"),
    [("mqa", "preprint"), ("vllm", "conferencePaper"), ("rope", "journalArticle"), ("flash-decoding", "blogPost"),
     ("tensorrt-llm", "webpage")],
)  # fmt: skip
def test_highwire_tags(catalogue, client, slug, kind):
    found = tags(client, slug)
    values = dict(found)
    work = Work.objects.get(slug=slug)
    assert values["z:itemType"] == kind, "else Zotero makes every preprint a journal article"
    assert values["citation_title"] == work.title
    authors = [content for name, content in found if name == "citation_author"]
    assert len(authors) == work.authorships.count()
    assert re.fullmatch(r"\d{4}(/\d\d(/\d\d)?)?", values["citation_publication_date"])
    if work.arxiv_id:
        assert values["citation_pdf_url"] == f"https://arxiv.org/pdf/{work.arxiv_id}"
    assert ("citation_conference_title" in values) == (kind == "conferencePaper")
    assert ("citation_journal_title" in values) == (kind == "journalArticle")


def test_authors_stand_last_name_first_one_a_tag(catalogue, client):
    authors = [content for name, content in tags(client, "flashattention") if name == "citation_author"]
    assert authors == ["Dao, Tri", "Fu, Daniel Y.", "Ermon, Stefano", "Rudra, Atri", "Ré, Christopher"]


def test_coins_on_every_row_of_the_list(catalogue, client):
    page = client.get("/?sort=title").content.decode()
    spans = [html.unescape(title) for title in re.findall(r'<span class="Z3988" title="([^"]*)"', page)]
    assert len(spans) == len(re.findall(r"<tr data-row", page)) > 10
    for span in spans:
        fields = parse_qs(span, strict_parsing=True)
        assert fields["ctx_ver"] == ["Z39.88-2004"] and fields["rft_val_fmt"][0].startswith("info:ofi/fmt:kev:mtx:")
        assert fields.get("rft.atitle") or fields.get("rft.title")
        assert fields["rft_id"][-1].startswith("http")


def test_json_ld_says_the_same_and_cannot_break_out(catalogue, client):
    Work.objects.filter(slug="vllm").update(title="A</script><script>alert(1)</script> & <!-- B")
    page = client.get("/papers/vllm/").content.decode()
    (block,) = re.findall(r'<script type="application/ld\+json">(.*?)</script>', page, re.S)
    data = json.loads(block)
    assert data["name"].startswith("A</script>") and data["@type"] == "ScholarlyArticle"
    assert "https://doi.org/10.1145/3600006.3613165" in data["sameAs"]
    assert data["author"][0] == {
        "@type": "Person", "familyName": "Kwon", "givenName": "Woosuk", "name": "Woosuk Kwon",
    }  # fmt: skip


def test_signposting_level_1(catalogue, client):
    link = client.get("/papers/vllm/")["Link"]
    found = re.findall(r'<([^>]+)>; rel="([^"]+)"(?:; type="([^"]+)")?', link)
    relations = {relation for _, relation, _ in found}
    assert {"cite-as", "describedby", "type", "item", "related"} <= relations
    assert ("http://testserver/papers/vllm/", "cite-as", "") in found
    for address, relation, media_type in found:
        if relation == "describedby":
            answer = client.get(address.removeprefix("http://testserver"))
            assert answer.status_code == 200 and answer["Content-Type"].startswith(media_type)


def test_canonical_address_and_open_graph(catalogue, client):
    page = client.get("/papers/vllm/?utm=1").content.decode()
    assert '<link rel="canonical" href="http://testserver/papers/vllm/">' in page
    assert 'property="og:title"' in page and 'property="og:url"' in page


def test_sitemap_and_robots(catalogue, client):
    tree = ElementTree.fromstring(client.get("/sitemap.xml").content)
    addresses = [node.text for node in tree.iter("{http://www.sitemaps.org/schemas/sitemap/0.9}loc")]
    assert sum("/papers/" in address for address in addresses) == 76
    assert "http://testserver/claims/" in addresses
    robots = client.get("/robots.txt").content.decode()
    assert "Sitemap: http://testserver/sitemap.xml" in robots and "Disallow: /admin/" in robots


def test_the_citation_box_switches_formats(catalogue, client):
    page = client.get("/papers/vllm/").content.decode()
    assert "@inproceedings{vllm," in html.unescape(page)
    part = client.get("/papers/vllm/cite/?as=ris", headers={"HX-Request": "true"}).content.decode()
    assert "TY  - CPAPER" in part and "<html" not in part
    assert client.get("/papers/vllm/cite/?as=word").status_code == 404
