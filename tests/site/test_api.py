"""The API: the page's own filters, pages, tags, problems, and a description that is true."""

import json
import re

import pytest
from django.test import Client
from openapi_spec_validator import validate

from catalog import index
from catalog.models import Entry, Work
from config.api import api
from jobs.models import Job
from readers import services
from readers.models import Collection
from tests.site import measured
from tests.site.people import person, sign_in

pytestmark = pytest.mark.django_db
URL = "/api/v1"


@pytest.fixture(autouse=True)
def listed(catalogue):
    """Every answer stands on the list."""


@pytest.fixture
def curator(client, settings):
    return sign_in(client, settings, "curator")


def get(client, path: str, status: int = 200, **headers):
    answer = client.get(f"{URL}{path}", **headers)
    assert answer.status_code == status, answer.content
    return answer


def send(client, method: str, path: str, data, status: int):
    body = data if isinstance(data, str) else json.dumps(data)
    answer = client.generic(method, f"{URL}{path}", body, content_type="application/json")
    assert answer.status_code == status, answer.content
    return answer


def is_problem(answer) -> dict:
    assert answer["Content-Type"] == "application/problem+json"
    data = answer.json()
    assert data["status"] == answer.status_code and data["type"] == "about:blank" and data["title"]
    assert data["detail"] and data["instance"].startswith("/api/") and "Traceback" not in data["detail"]
    return data


QUERIES = [
    "", "q=flash+attention", "q=author:dao+year:2022", "q=2309.17453", "category=others", "topic=pruning",
    "year=2022-2023", "from=2023-06&to=2023-09", "from=2023-12-20", "to=2019", "author=tri+dao", "code=no", "stars=2",
    "highlight=yes", "kind=survey", "runnable=yes", "verdict=replicated", "device=cpu", "device=cuda",
    "sort=title", "sort=date&code=yes", "sort=stars", "sort=rating", "sort=result", "sort=listed", "q=nosuchword",
    "year=soon", "colour=red",
]  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
def test_filters_are_the_pages(client, made, query):
    measured.run(made, error=1.0)
    data = get(client, f"/works?{query}&size=200").json()
    page = client.get(f"/?{query}").content.decode()
    rows = re.findall(r'class="title" href="/papers/([^/]*)/"', page)
    slugs = [work["slug"] for work in data["results"]]
    assert list(dict.fromkeys(rows)) == slugs and data["total"] == len(slugs)
    assert f"<strong>{data['total']}</strong> work" in page
    assert bool(data["problems"]) == ('class="error"' in page) == (query in ("year=soon", "colour=red"))
    assert [hit["slug"] for hit in get(client, f"/search?{query}&size=200").json()["results"]] == slugs
    entries = get(client, f"/entries?{query}&size=200").json()["results"]
    assert {entry["work"] for entry in entries} == set(slugs)
    claims = get(client, f"/claims?{query}&size=200").json()
    assert {claim["work"] for claim in claims["results"]} <= set(slugs)


def test_from_and_to_take_years_months_and_days(client):
    dates = [work["published"] for work in get(client, "/works?from=2023-06&to=2023-09&size=200").json()["results"]]
    assert dates and all("2023-06" <= date[:7] <= "2023-09" for date in dates)
    one = get(client, "/works?from=2022-05-27&to=2022-05-27").json()["results"]
    assert [work["published"] for work in one] == ["2022-05-27"] * len(one) and one
    for wrong in ("2023-13", "2023-02-30", "23", "2023-1", "٢٠٢٣"):
        assert "expected" in get(client, f"/works?from={wrong}").json()["problems"][0]


def test_a_category_gives_its_own_entries(client):
    slug = Entry.objects.first().category.slug
    entries = get(client, f"/entries?category={slug}&size=200").json()["results"]
    assert {entry["category"] for entry in entries} == {slug}
    assert len(entries) == Entry.objects.filter(category__slug=slug).count()
    counts = {c["slug"]: c["works"] for c in get(client, "/categories").json()["results"]}
    assert len(counts) == 12 and counts[slug] == len(entries)


def test_pages_hold_everything_once(client):
    seen, path = [], f"{URL}/works?size=30&sort=title"
    while path:
        answer = client.get(path)
        seen += [work["slug"] for work in answer.json()["results"]]
        links = dict(re.findall(r'<([^>]*)>; rel="(\w+)"', answer.get("Link", "")))
        path = next((url for url, relation in links.items() if relation == "next"), None)
    assert len(seen) == len(set(seen)) == 76
    beyond = get(client, "/works?page=99&size=30")
    assert beyond.json()["results"] == [] and "page=3" in beyond["Link"] and 'rel="next"' not in beyond["Link"]
    for wrong in ("page=0", "size=0", "size=201", "page=x"):
        assert "not accepted" in is_problem(get(client, f"/works?{wrong}", 422))["detail"]


@pytest.mark.parametrize("path", ["/works", "/works/vllm", "/entries", "/categories", "/search?q=flash", "/claims",
                                  "/collections", "/runs", "/works?topic=pruning"])  # fmt: skip
def test_an_answer_that_did_not_change_is_not_sent_again(client, path):
    first = get(client, path)
    again = get(client, path, 304, HTTP_IF_NONE_MATCH=first["ETag"])
    assert not again.content and again["ETag"] == first["ETag"]
    get(client, path, 304, HTTP_IF_NONE_MATCH=f'"other", W/{first["ETag"]}')
    get(client, path, 200, HTTP_IF_NONE_MATCH='"other"')


def test_a_change_gives_another_tag(curator):
    before = {path: get(curator, path)["ETag"] for path in ("/works", "/works/vllm", "/entries", "/claims")}
    send(curator, "PATCH", "/works/vllm", {"venue": "Somewhere"}, 200)
    for path, tag in before.items():
        get(curator, path, 200, HTTP_IF_NONE_MATCH=tag)


def test_tags_of_different_questions_differ(client):
    tags = [get(client, path)["ETag"] for path in ("/works", "/works?page=2", "/works?q=flash", "/works/vllm")]
    assert len(set(tags)) == 4


def test_collections_of_others_are_no_filter(client, settings):
    collection = Collection.objects.create(owner=person("owner"), name="Mine")
    services.add(collection, Work.objects.get(slug="vllm"))
    path = f"/works?collection={collection.pk}"
    assert get(client, path).json()["total"] == 76 and "you may see" in get(client, path).json()["problems"][0]
    sign_in(client, settings, "owner")
    answer = get(client, path)
    assert answer.json()["total"] == 1
    services.add(collection, Work.objects.get(slug="orca"))
    assert get(client, path, 200, HTTP_IF_NONE_MATCH=answer["ETag"]).json()["total"] == 2
    page = client.get(f"/?collection={collection.pk}").content.decode()
    assert "<strong>2</strong> works" in page and "collection: Mine" in page
    client.logout()
    collection.visibility = "link"
    collection.save()
    assert get(client, path).json()["total"] == 76
    assert get(client, f"/works?collection={collection.key}").json()["total"] == 2


PROBLEMS = [  # who, method, path, body, status
    ("anonymous", "GET", "/nothing", None, 404),
    ("anonymous", "GET", "/works/nothing", None, 404),
    ("anonymous", "GET", "/entries/999999", None, 404),
    ("anonymous", "GET", "/entries/x", None, 422),
    ("anonymous", "GET", "/entries/99999999999999999999999", None, 404),
    ("anonymous", "GET", "/collections/99999999999999999999999", None, 404),
    ("anonymous", "GET", "/runs/99999999999999999999999", None, 404),
    ("anonymous", "GET", "/works/nothing/reproduction", None, 404),
    ("anonymous", "DELETE", "/works/vllm", None, 405),
    ("anonymous", "POST", "/works", {}, 405),
    ("anonymous", "PUT", "/categories", {}, 405),
    ("anonymous", "PATCH", "/works/vllm", {"venue": "X"}, 401),
    ("reader", "PATCH", "/works/vllm", {"venue": "X"}, 403),
    ("curator", "PATCH", "/works/nothing", {"venue": "X"}, 404),
    ("curator", "PATCH", "/works/vllm", "{", 400),
    ("curator", "PATCH", "/works/vllm", "\xff", 400),
    ("curator", "PATCH", "/works/vllm", "[]", 422),
    ("curator", "PATCH", "/works/vllm", "null", 422),
    ("curator", "PATCH", "/works/vllm", "", 422),
    ("curator", "PATCH", "/works/vllm", {"slug": "other"}, 422),
    ("curator", "PATCH", "/works/vllm", {"title": ""}, 422),
    ("curator", "PATCH", "/works/vllm", {"title": None}, 422),
    ("curator", "PATCH", "/works/vllm", {"title": "a\nb"}, 422),
    ("curator", "PATCH", "/works/vllm", {"url": "javascript:alert(1)"}, 422),
    ("curator", "PATCH", "/works/vllm", {"published": "2023-02-30"}, 422),
    ("curator", "PATCH", "/works/vllm", {"title": "x" * 401}, 422),
    ("curator", "PATCH", "/works/vllm", {"title": "\ud800"}, 422),
    ("reader", "POST", "/collections", {"name": " "}, 422),
    ("reader", "POST", "/collections", {"name": "x", "visibility": "secret"}, 422),
    ("reader", "POST", "/works/flashattention/runs", {"size": "huge", "device": "cpu"}, 422),
    ("reader", "POST", "/works/flashattention/runs", {"size": "cpu", "device": "tpu"}, 422),
    ("reader", "POST", "/works/flashattention/runs", {"size": "cpu", "speed": 9}, 422),
]


@pytest.mark.parametrize(("who", "method", "path", "body", "status"), PROBLEMS)
def test_what_is_wrong_is_a_problem(client, settings, made, who, method, path, body, status):
    sign_in(client, settings, who)
    before = list(Work.objects.values())
    answer = send(client, method, path, "" if body is None else body, status)
    data = is_problem(answer)
    if status == 405:
        assert answer["Allow"]
    if status == 422 and path.startswith("/works/vllm") and body not in ("[]", "null", ""):
        assert data["errors"][0]["pointer"].startswith("#/")
    assert list(Work.objects.values()) == before


def test_what_fails_here_is_told_without_its_reason(client, monkeypatch, caplog):
    def fails(*args):
        raise RuntimeError("secret detail")

    monkeypatch.setattr("catalog.api.selected", fails)
    client.raise_request_exception = False
    data = is_problem(get(client, "/works", 500))
    assert "secret" not in json.dumps(data) and "secret detail" in caplog.text


def test_a_curator_changes_works_and_entries(curator):
    data = send(curator, "PATCH", "/works/vllm", {"title": "Paged Xylophones", "published": "2023-09"}, 200).json()
    assert data["title"] == "Paged Xylophones" and data["published"] == "2023-09"
    assert [hit["slug"] for hit in get(curator, "/search?q=xylophones").json()["results"]] == ["vllm"]
    entry = data["entries"][0]["id"]
    changed = send(curator, "PATCH", f"/entries/{entry}", {"stars": 5, "tag": "Xylo"}, 200).json()
    assert (changed["stars"], changed["tag"]) == (5, "Xylo") and get(curator, f"/entries/{entry}").json() == changed
    assert "vllm" in [work["slug"] for work in get(curator, "/works?stars=5").json()["results"]]


def test_a_curator_writes_claims_links_entries_and_names(curator):
    new = {"key": "speed", "statement": "Twice as fast", "direction": "about", "value": 2.0, "unit": "x"}
    claim = send(curator, "POST", "/works/vllm/claims", new, 201).json()
    assert claim["work"] == "vllm" and claim["value"] == 2.0
    assert "already" in is_problem(send(curator, "POST", "/works/vllm/claims", new, 422))["detail"]
    for wrong in ({"direction": "up"}, {"value": "many"}, {"statement": " "}, {"key": "A b"}, {"source": "x"}):
        is_problem(send(curator, "POST", "/works/vllm/claims", new | {"key": "other"} | wrong, 422))
    changed = send(curator, "PATCH", "/works/vllm/claims/speed", {"value": None, "direction": "trend"}, 200).json()
    assert changed["value"] is None
    is_problem(send(curator, "PATCH", "/works/vllm/claims/speed", {"unit": None}, 422))
    send(curator, "DELETE", "/works/vllm/claims/speed", "", 204)
    is_problem(send(curator, "DELETE", "/works/vllm/claims/speed", "", 404))

    work = get(curator, "/works/vllm").json()
    free = next(c["slug"] for c in get(curator, "/categories").json()["results"]
                if c["slug"] not in [e["category"] for e in work["entries"]])  # fmt: skip
    listed_new = {"category": free, "title": "T", "month": "2024-01", "stars": 4}
    entry = send(curator, "POST", "/works/vllm/entries", listed_new, 201).json()
    is_problem(send(curator, "POST", "/works/vllm/entries", listed_new, 422))
    is_problem(send(curator, "POST", "/works/vllm/entries", listed_new | {"category": "nothing"}, 422))
    link = {"role": "code", "label": "x", "url": "https://example.org/x"}
    made = send(curator, "POST", f"/entries/{entry['id']}/links", link, 201).json()
    assert send(curator, "PATCH", f"/links/{made['id']}", {"label": "y"}, 200).json() == made | {"label": "y"}
    assert get(curator, f"/entries/{entry['id']}").json()["links"] == [made | {"label": "y"}]
    is_problem(send(curator, "POST", f"/entries/{entry['id']}/links", link | {"url": "x"}, 422))
    send(curator, "DELETE", f"/links/{made['id']}", "", 204)
    send(curator, "DELETE", f"/entries/{entry['id']}", "", 204)
    is_problem(get(curator, f"/entries/{entry['id']}", 404))

    assert send(curator, "PATCH", f"/categories/{free}", {"name": "Other words"}, 200).json()["slug"] == free
    assert "Other words" in curator.get("/").content.decode()
    data = send(curator, "PATCH", "/works/vllm", {"authors": ["B", "A"], "topics": ["new"]}, 200).json()
    assert data["authors"] == ["B", "A"] and data["topics"] == ["new"]
    is_problem(send(curator, "PATCH", "/works/vllm", {"authors": ["B", "B"]}, 422))


def test_reading_runs_and_verdicts(client, made):
    run = measured.run(made, error=1.0)
    assert get(client, "/runs?work=flashattention").json()["results"][0]["id"] == run.pk
    assert get(client, f"/runs/{run.pk}").json()["verdicts"][0]["outcome"] == "replicated"
    assert get(client, f"/runs/{run.pk}/rows").json()["rows"] == run.rows
    assert get(client, "/works/flashattention/reproduction").json()["question"] == "Is it exact?"
    claims = get(client, "/claims?verdict=replicated").json()
    assert [claim["key"] for claim in claims["results"]] == ["exactness", "memory"] and claims["results"][0]["verdicts"]


def schema(client) -> dict:
    return get(client, "/openapi.json").json()


def test_the_description_is_valid_and_names_every_route(client):
    described = schema(client)
    validate(described)
    said = {(path, method) for path, item in described["paths"].items() for method in item}
    routes = {
        (f"{URL}{path}", method.lower())
        for _, router in api._routers
        for path, view in router.path_operations.items()
        for operation in view.operations
        for method in operation.methods
    }
    assert said == routes and len(routes) > 15
    names = [item[method]["operationId"] for item in described["paths"].values() for method in item]
    assert len(names) == len(set(names))


def test_the_description_names_every_filter(client):
    from catalog.selection import FILTERS

    parameters = {p["name"] for p in schema(client)["paths"][f"{URL}/works"]["get"]["parameters"]}
    assert parameters == {*FILTERS, "q", "sort", "page", "size"}


def test_answers_are_as_described(client, made):
    from openapi_schema_validator import OAS31Validator

    run = measured.run(made, error=1.0)
    collection = Collection.objects.create(owner=person("owner"), name="C", visibility="public")
    services.add(collection, Work.objects.get(slug="vllm"))
    bundle = Job.objects.create(kind="bundle", device="control", time_limit_s=9)
    described = schema(client)
    values = {"slug": "flashattention", "entry_id": Entry.objects.first().pk, "run_id": run.pk,
              "collection_id": collection.pk, "job_id": bundle.pk}  # fmt: skip
    checked = 0
    for path, item in described["paths"].items():
        told = item.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        if "application/json" not in told:
            continue  # it is not read, or it is a file
        where = path.format(**values)
        whole = told["application/json"]["schema"] | {"components": described["components"]}
        OAS31Validator(whole).validate(client.get(where).json())
        checked += 1
    assert checked >= 12


def test_writing_with_a_session_asks_for_csrf():
    client = Client(enforce_csrf_checks=True)
    client.force_login(person("curator"))
    is_problem(send(client, "PATCH", "/works/vllm", {"venue": "X"}, 403))


def test_the_cost_of_a_page_does_not_grow_with_its_size(client, django_assert_max_num_queries):
    index.touch()
    get(client, "/works?size=1")
    for path in ("/works?size=200", "/entries?size=200", "/claims?size=200", "/search?q=a&size=200"):
        with django_assert_max_num_queries(16):
            get(client, path)
