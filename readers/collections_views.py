"""Readers' collections: everybody's public ones, by link, and one's own to change."""

import re
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import IntegrityError
from django.db.models import Count, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from catalog.models import Work
from config.http import UserRequest, whole_number
from config.quota import Full
from config.told import Visible
from readers import services
from readers.models import Collection, CollectionItem

STEPS = {"up": -1, "down": 1}
SHOWN = 200


class CollectionForm(Visible, forms.ModelForm):
    """Name, description and who may see it."""

    description = forms.CharField(required=False, max_length=4000, widget=forms.Textarea(attrs={"rows": 3}))

    class Meta:
        model = Collection
        fields = ["name", "description", "visibility"]

    def saved(self) -> bool:
        """Write it if it is in order; a name that one has already is told on the form."""
        self.full = False
        if not self.is_valid():
            return False
        try:
            new = self.instance.pk is None
            with services.another(self.instance.owner) if new else services.changing(self.instance):
                self.save()
        except Full as full:
            self.full = True
            self.add_error(None, f"Not made: {full}.")
            return False
        except IntegrityError:
            self.add_error("name", "You have a collection of this name already.")
            return False
        return True


class NoteForm(Visible, forms.Form):
    """Why a work is in a collection."""

    note = forms.CharField(required=False, max_length=2000)


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """One's own collections and everybody's public ones."""
    return _index(request, CollectionForm())


def _index(request: HttpRequest, form: CollectionForm, status: int = 200) -> HttpResponse:
    found = Collection.objects.seen_by(request.user).select_related("owner").annotate(size=Count("items"))
    signed_in = request.user.is_authenticated
    context = {
        "form": form,
        "own": found.filter(owner=request.user) if signed_in else [],
        "others": (found.exclude(owner=request.user) if signed_in else found)[:SHOWN],
    }
    return render(request, "readers/collections.html", context, status=status)


@require_POST
@login_required
def create(request: UserRequest) -> HttpResponse:
    """Make a collection; what is wrong is said on the form."""
    form = CollectionForm(request.POST, instance=Collection(owner=request.user))
    if not form.saved():
        return _index(request, form, status=409 if form.full else 400)
    return redirect("collection", pk=form.instance.pk)


@require_safe
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    """One collection; somebody else's is found only if it is public."""
    return _detail(request, get_object_or_404(Collection.objects.seen_by(request.user), pk=pk))


@require_safe
def shared(request: HttpRequest, key: str) -> HttpResponse:
    """A collection by its link, as long as its owner shares it."""
    found = get_object_or_404(Collection.objects.exclude(visibility=Collection.Visibility.PRIVATE), key=key)
    response = _detail(request, found)
    response["X-Robots-Tag"] = "noindex"
    response["Cache-Control"] = "private"
    return response


def _detail(request: HttpRequest, found: Collection) -> HttpResponse:
    items = found.items.select_related("work").prefetch_related("work__authorships__author")
    by_link = found.visibility != Collection.Visibility.PRIVATE
    link = request.build_absolute_uri(reverse("collection-shared", args=[found.key])) if by_link else ""
    context = {"collection": found, "items": items, "mine": found.owner_id == request.user.pk, "link": link}
    return render(request, "readers/collection.html", context)


def _own(request: UserRequest, pk: int) -> Collection:
    """One's own collection; another's is not found."""
    return get_object_or_404(Collection, pk=pk, owner=request.user)


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def edit(request: UserRequest, pk: int) -> HttpResponse:
    """Rename it, describe it, choose who may see it."""
    found = _own(request, pk)
    form = CollectionForm(request.POST or None, instance=found)
    if request.method == "POST" and form.saved():
        return redirect("collection", pk=pk)
    context = {"collection": _own(request, pk), "form": form}
    return render(request, "readers/collection_edit.html", context, status=400 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def delete(request: UserRequest, pk: int) -> HttpResponse:
    """Ask, then delete."""
    found = _own(request, pk)
    if request.method == "POST":
        if Collection.objects.filter(pk=found.pk).delete()[0]:
            messages.success(request, f"The collection “{found.name}” was deleted.")
        return redirect("collections")
    return render(request, "readers/collection_delete.html", {"collection": found, "size": found.items.count()})


@require_POST
@login_required
def collect(request: UserRequest, slug: str) -> HttpResponse:
    """Put a work into one's collection, from the page of the work: `collection`, or `name` for a new one."""
    work = get_object_or_404(Work, slug=slug)
    pk, name = request.POST.get("collection", ""), request.POST.get("name", "").strip()
    if name:
        form = CollectionForm({"name": name, "visibility": "private"}, instance=Collection(owner=request.user))
        if not form.saved():
            messages.error(request, " ".join(str(error) for errors in form.errors.values() for error in errors))
            return redirect(_paper(slug))
        found = form.instance
    elif re.fullmatch("[0-9]+", pk):
        found = _own(request, whole_number(pk) or 0)
    else:
        messages.error(request, "Choose a collection, or name a new one.")
        return redirect(_paper(slug))
    try:
        _, new = services.add(found, work)
        messages.success(request, f"Added to “{found.name}”." if new else f"It is in “{found.name}” already.")
    except Full as full:
        messages.error(request, f"Not added: {full}.")
    return redirect(_paper(slug))


def _paper(slug: str) -> str:
    return reverse("paper", args=[slug]) + "#readers"


def _item(request: UserRequest, pk: int, item: int) -> CollectionItem:
    items: QuerySet[CollectionItem] = CollectionItem.objects.select_related("collection")
    return get_object_or_404(items, pk=item, collection=_own(request, pk))


def _back(item: Any) -> HttpResponse:
    return redirect(reverse("collection", args=[item.collection_id]) + f"#item-{item.pk}")


@require_POST
@login_required
def item_move(request: UserRequest, pk: int, item: int) -> HttpResponse:
    """One place up or down."""
    found = _item(request, pk, item)
    if (step := STEPS.get(request.POST.get("to", ""))) is None:
        raise Http404("expected up or down")
    services.move(found, step)
    return _back(found)


@require_POST
@login_required
def item_note(request: UserRequest, pk: int, item: int) -> HttpResponse:
    """Write why the work is here."""
    found = _item(request, pk, item)
    form = NoteForm(request.POST)
    if form.is_valid():
        CollectionItem.objects.filter(pk=found.pk).update(note=form.cleaned_data["note"])
        services.touch(found.collection)
    else:
        said = " ".join(str(error) for error in form.errors["note"])
        messages.error(request, f"The note was not kept. {said}")
    return _back(found)


@require_POST
@login_required
def item_remove(request: UserRequest, pk: int, item: int) -> HttpResponse:
    """Take a work out of the collection."""
    found = _item(request, pk, item)
    if CollectionItem.objects.filter(pk=found.pk).delete()[0]:
        services.touch(found.collection)
        messages.success(request, f"Removed: {found.work.title}")
    return redirect("collection", pk=pk)
