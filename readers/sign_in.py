"""Signing in and out, and setting a password; each is noted in the audit log, and each guess is counted."""

from typing import Any

from django.conf import settings
from django.contrib.auth import views as auth
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from config import client, clock
from config.audit import REFUSED, WRONG, record
from readers import brake


def _note_session(request: HttpRequest) -> None:
    """What the operators' page shows of a session."""
    request.session["since"] = clock.now().isoformat()
    request.session["from"] = client.address(request) or ""


class Login(auth.LoginView):
    """Sign in; on the embedded default it also says how to be the local operator."""

    def get_context_data(self, **more: Any) -> dict[str, Any]:
        """With `local`, whether there is an address that opens."""
        return super().get_context_data(**more) | {"local": bool(settings.LOCAL_SECRET)}

    def form_valid(self, form: Any) -> HttpResponse:
        """The session begins."""
        answer = super().form_valid(form)
        _note_session(self.request)
        record(self.request, "sign in")
        return answer

    def form_invalid(self, form: Any) -> HttpResponse:
        """A name that is no account's is not noted: it may be a password in the wrong field."""
        typed = form.cleaned_data.get("username")
        if typed and form.cleaned_data.get("password"):
            name = brake.counted_name(typed)
            known = name == typed
            outcome = REFUSED if getattr(self.request, "axes_locked_out", False) else WRONG
            who, about = (name, "") if known else ("", "no account has this name")
            record(self.request, "sign in", about, outcome=outcome, who=who)
        return super().form_invalid(form)


class Logout(auth.LogoutView):
    """Sign out."""

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The session ends."""
        if request.user.is_authenticated:
            record(request, "sign out")
        return super().post(request, *args, **kwargs)


class ChangePassword(auth.PasswordChangeView):
    """Another password, for whoever knows the present one."""

    success_url = "/"

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Refused while one waits: a session that was left open must not serve to guess the password."""
        name = request.user.get_username()
        if wait := brake.wait_s(request, name):
            record(request, "change password", outcome=REFUSED)
            return brake.wait_page(request, wait)
        return super().post(request, *args, **kwargs)

    def form_invalid(self, form: Any) -> HttpResponse:
        """Only a wrong present password is a guess."""
        if "old_password" in form.errors and form.data.get("old_password"):
            brake.wrong_password(self.request, self.request.user.get_username())
            record(self.request, "change password", outcome=WRONG)
        return super().form_invalid(form)

    def form_valid(self, form: Any) -> HttpResponse:
        """Other sessions of the account end with it."""
        brake.right_password(self.request, self.request.user.get_username())
        answer = super().form_valid(form)
        record(self.request, "change password")
        return answer


class SetPassword(auth.PasswordResetConfirmView):
    """The link that `manage.py invite` prints."""

    post_reset_login = True
    post_reset_login_backend = "django.contrib.auth.backends.ModelBackend"
    success_url = "/"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """A link that opens nothing is a guess."""
        answer = super().dispatch(request, *args, **kwargs)
        opened = self.validlink or answer.status_code == 302  # a good link leads to an address without its token
        if opened or kwargs["token"] == self.reset_url_token:
            return answer
        if wait := brake.secret_wait_s(request, "link"):
            record(request, "open invitation", outcome=REFUSED)
            return brake.wait_page(request, wait)
        if brake.wrong_secret(request, "link", f"{kwargs['uidb64']}/{kwargs['token']}"):
            record(request, "open invitation", outcome=WRONG)
        return answer

    def form_valid(self, form: Any) -> HttpResponse:
        """The password is set, and one is signed in."""
        answer = super().form_valid(form)
        _note_session(self.request)
        record(self.request, "use invitation")
        record(self.request, "sign in", "by an invitation")
        return answer
