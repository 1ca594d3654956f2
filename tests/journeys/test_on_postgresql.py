"""The main job once more, on PostgreSQL."""

import pytest

from tests.support import stack as installation
from tests.support.admin import CODE, Admin


@pytest.mark.timeout(300)
def test_a_card_is_made_authorized_and_kept_fresh_on_postgresql(tmp_path, browser, databases):
    url = databases["postgresql"].create_empty()
    with installation.serve(tmp_path, database_url=url) as running:
        page = browser.new_context(base_url=running.url).new_page()
        admin = Admin(page)
        admin.set_up(running.setup_link)
        admin.make_card(CODE)
        admin.authorize()
        admin.see_state("Connected")
        admin.preview()
        before = running.provider.hits("refresh_token")
        page.wait_for_timeout(2 * installation.LIFETIME * 1000)
        assert running.provider.hits("refresh_token") > before
        admin.see_state("Connected")
        page.context.close()
    databases["postgresql"].drop(url)
