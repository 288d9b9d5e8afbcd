"""An upload in a real browser without scripts, wide and narrow."""

import sys
import urllib.request

import pytest

from tests.installation import eventually
from tests.site.test_import_pages import TEXT

pytestmark = pytest.mark.xdist_group("up")


@pytest.fixture
def site(installation):
    """A web server of its own, whose visitor is the local operator."""
    for command in ("migrate", "load_catalog"):
        assert installation.manage(command).returncode == 0
    installation.env["CLAIMCHECK_LOCAL_SECRET"] = "key"
    listen = f"--listen=127.0.0.1:{installation.port}"
    installation.start(sys.executable, "-m", "config.serve", listen, log="web")

    def answers() -> bool:
        try:
            return urllib.request.urlopen(installation.url).status == 200
        except OSError:
            return False

    eventually(answers, "the web server answers")
    return installation.url


def test_upload_look_answer_apply(site, chromium, tmp_path):
    (tmp_path / "mine.md").write_text(TEXT, encoding="utf-8")
    for width in (1280, 390):
        page = chromium.new_page(viewport={"width": width, "height": 900}, java_script_enabled=False)
        page.goto(f"{site}/enter/?key=key")
        page.goto(f"{site}/import/")
        page.set_input_files("#file", tmp_path / "mine.md")
        page.get_by_role("button", name="Look at it").click()
        assert page.get_by_role("heading", name="Row by row").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if width == 390:
            page.get_by_label("the same as FlexGen").check()
            page.get_by_role("button", name="Apply").click()
            assert "1 work created, 2 updated" in page.inner_text("main")
        page.close()
