"""The whole API by its own description, as anybody, a reader and an operator, through the real web server: whatever is
sent, no answer is a fault of the server, and each is one that the description promises.

The operator deletes what there is, so this has an installation of its own.
"""

import contextlib
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from reproductions import records
from tests.installation import Installation, eventually
from tests.waiting import allowed

pytestmark = pytest.mark.xdist_group("up")
EXAMPLES = 3  # of each kind, for each operation and visitor
CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance,
]  # fmt: skip
THERE = {
    "slug": "flashattention", "key": "exactness", "name": "bibtex", "entry_id": 1, "link_id": 1, "claim_id": 1,
    "run_id": 1, "collection_id": 1,
}  # fmt: skip
MAKE = """
from pathlib import Path
from django.core.management import call_command
for command in ("migrate", "load_catalog", "sync_reproductions"):
    call_command(command, verbosity=0)
from django.contrib.auth.models import User
from readers import services, tokens
from readers.models import Collection
from catalog.models import Work
from jobs.models import Job
from reproductions import records
records.load(Path(FOLDER))
print("job", Job.objects.create(kind="bundle", device="control", time_limit_s=9, arguments=["report", ""]).pk)
for name in ("reader", "operator"):
    user = User.objects.create(username=name, is_staff=name == "operator", is_superuser=name == "operator")
    made = Collection.objects.create(owner=user, name="mine", visibility="public")
    services.add(made, Work.objects.get(slug="flashattention"))
    print(f"{name}={tokens.create(user, name='t', scope='write')[1]}={made.pk}")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Installation]:
    """A web server alone, with a few shipped results and two people's tokens and collections."""
    made = Installation(tmp_path_factory.mktemp("fuzz"), WAITING_RUNS_PER_USER="20")
    few = tmp_path_factory.mktemp("records")
    for path in records.FOLDER.glob("flashattention-cpu*.json"):
        shutil.copy(path, few)
    done = made.manage("shell", "-c", MAKE.replace("FOLDER", repr(str(few))))
    assert done.returncode == 0, done.stderr
    told = re.findall(r"^(\w+)=(\S+)=(\d+)$", done.stdout, re.M)
    made.tokens = {name: {"Authorization": f"Bearer {token}"} for name, token, _ in told} | {"anonymous": {}}
    made.bundle_job = int(re.search(r"^job (\d+)$", done.stdout, re.M).group(1))
    made.collections = {name: int(pk) for name, _, pk in told}
    listen = f"--listen=127.0.0.1:{made.port}"
    made.start(sys.executable, "-m", "config.serve", listen, log="web")
    eventually(lambda: made.status("/health/live") == 200, "the web server answers", 60)
    yield made
    made.stop()


def operations(site: Installation, change: Callable[[dict], object] = bool) -> list[APIOperation]:
    """Every operation of the description, which `change` may have changed; those that delete come last, parts first."""
    generation = GenerationConfig(with_security_parameters=False, database="none")
    config = SchemathesisConfig(
        projects=ProjectsConfig(default=ProjectConfig(generation=generation, base_url=site.url))
    )
    described = json.loads(site.page("/api/v1/openapi.json"))
    change(described)
    schema = schemathesis.openapi.from_dict(described, config=config)
    found = [result.ok() for result in schema.get_all_operations()]
    return sorted(found, key=lambda one: (one.method == "delete", -len(one.path) if one.method == "delete" else 0))


def problems(site: Installation, operation: APIOperation, who: str) -> set[str]:
    """What is wrong with the answers to examples: of what is there, of anything that fits, and of what does not fit."""
    there = THERE | {"collection_id": site.collections.get(who, 1), "job_id": site.bundle_job}
    if "/categories/" in operation.path:
        there["slug"] = "others"
    known = {p.name: there[p.name] for p in operation.path_parameters}
    found = set()

    def send(case) -> None:
        response = case.call(headers=site.tokens[who], timeout=allowed(60))
        seen.append(response.status_code)
        try:
            case.validate_response(response, checks=CHECKS)
        except FailureGroup as group:
            found.update(f"{operation.label} as {who}: {one.title}: {one.message}" for one in group.exceptions)

    for mode, parameters in (
        (GenerationMode.POSITIVE, known), (GenerationMode.POSITIVE, None), (GenerationMode.NEGATIVE, known),
    ):  # fmt: skip
        seen: list[int] = []
        few = settings(
            max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        with contextlib.suppress(Unsatisfiable):  # nothing can be wrong with a request that says nothing
            few(given(operation.as_strategy(mode, path_parameters=parameters))(send))()
        print(operation.label, who, mode, parameters is known, seen)
    return found


@pytest.mark.parametrize("who", ["anonymous", "reader", "operator"])
def test_no_answer_is_a_fault_and_each_is_described(site, who):
    found = [problem for operation in operations(site) for problem in sorted(problems(site, operation, who))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("promise", ["a field", "a status", "a type"])
def test_a_promise_that_is_not_kept_is_noticed(site, promise):
    def change(described: dict) -> None:
        responses = described["paths"]["/api/v1/categories"]["get"]["responses"]
        described["paths"] = {"/api/v1/categories": {"get": described["paths"]["/api/v1/categories"]["get"]}}
        if promise == "a field":
            described["components"]["schemas"]["Categories"]["required"].append("nosuch")
        elif promise == "a status":
            responses["201"] = responses.pop("200")
        else:
            responses["200"]["content"] = {"text/csv": {"schema": {}}}

    (operation,) = operations(site, change)
    assert problems(site, operation, "anonymous")
