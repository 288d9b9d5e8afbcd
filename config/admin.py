"""The admin: curators come in for the catalogue, operators for everything."""

from django.contrib.admin import AdminSite
from django.contrib.auth.forms import AuthenticationForm
from django.http import HttpRequest

from catalog.curation import is_curator


class Site(AdminSite):
    """What somebody sees there is what their permissions allow."""

    site_header = site_title = "Claimcheck"
    index_title = "Curation and accounts"
    login_form = AuthenticationForm

    def has_permission(self, request: HttpRequest) -> bool:
        """Curators are no staff: staff may cancel anybody's run."""
        return request.user.is_active and is_curator(request.user)
