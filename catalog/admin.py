"""The catalogue in the admin. What is written here goes through catalog.curation, so it has a history and an undo."""

from typing import Any

from django.contrib import admin
from django.db import models
from django.db.models import Count
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from simple_history.admin import SimpleHistoryAdmin

from catalog import curation, index
from catalog.forms import WorkForm
from catalog.models import Author, Category, Claim, Entry, Link, ListImport, Topic, Work
from config.admin import Audited

WHY = "in the admin"
HTTPS: Any = {models.URLField: {"assume_scheme": "https"}}


class Curated(Audited, SimpleHistoryAdmin):
    """Rows that are written with their history, alone or as rows of another's page."""

    list_per_page = 50
    formfield_overrides = HTTPS

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """What the form says; curation writes what differs."""
        if change:
            curation.change(obj, dict(form.cleaned_data), request.user, WHY)
        else:
            curation.add(obj, request.user, WHY)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Rows of the page: removed, changed, new at the end."""
        formset.save(commit=False)
        for row in formset.deleted_objects:
            curation.remove(row, request.user, WHY)
        for row, names in formset.changed_objects:
            curation.change(row, {name: getattr(row, name) for name in names}, request.user, WHY)
        for row in formset.new_objects:
            row.position = curation.next_position(siblings(row))
            curation.add(row, request.user, WHY)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """With a history, which brings it back."""
        curation.remove(obj, request.user, WHY)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        """One by one, for the same reason."""
        for row in queryset:
            curation.remove(row, request.user, WHY)


def siblings(row: Any) -> Any:
    """The rows that a row stands in order with."""
    if isinstance(row, Entry):
        return row.category.entries
    return row.entry.links if isinstance(row, Link) else row.work.claims


class Kept(Curated):
    """Rows that are not deleted, as runs, ratings or entries of others would go with them."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody's."""
        return False


class EntryInline(admin.TabularInline):
    """Where a work is listed."""

    model = Entry
    fields = ["category", "month", "tag", "bold", "title", "stars", "highlights"]
    extra = 0
    show_change_link = True


class ClaimInline(admin.StackedInline):
    """What a work says."""

    model = Claim
    exclude = ["position"]
    formfield_overrides = HTTPS
    extra = 0
    classes = ["collapse"]


class LinkInline(admin.TabularInline):
    """Links of an entry."""

    model = Link
    exclude = ["position"]
    formfield_overrides = HTTPS
    extra = 0


@admin.register(Work)
class WorkAdmin(Kept):
    """Works with their entries and claims."""

    list_display = ["title", "slug", "kind", "published_text", "listed", "claim_count", "metadata_verified", "page"]
    list_filter = ["kind", "metadata_verified", "authors_complete", "entries__category", "topics"]
    search_fields = ["title", "slug", "arxiv_id", "authors__name", "entries__tag"]
    date_hierarchy = "published"
    inlines = [EntryInline, ClaimInline]

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any) -> Any:
        """The page's own form; for a new work the bare facts."""
        if obj is not None:
            return super().get_form(request, obj, change, **options | {"form": WorkForm, "fields": None})
        fields = [
            "slug",
            "title",
            "kind",
            "url",
            "published",
            "published_precision",
            "venue",
            "published_title",
            "arxiv_id",
            "doi",
        ]
        return super().get_form(request, obj, change, **options | {"fields": fields})

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """In the form's order."""
        return [*WorkForm.field_order, "reason"] if obj else super().get_fields(request, obj)

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        """Once there is a work to list."""
        return self.inlines if obj else []

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """The page's own form says what changed."""
        if change:
            curation.change(obj, form.said(), request.user, form.cleaned_data["reason"] or WHY)
        else:
            super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Authors and topics are written with the work."""
        for formset in formsets:
            self.save_formset(request, form, formset, change=change)

    def get_queryset(self, request: HttpRequest) -> Any:
        """With counts."""
        found = super().get_queryset(request)
        return found.annotate(in_list=Count("entries", distinct=True), claimed=Count("claims", distinct=True))

    @admin.display(ordering="in_list")
    def listed(self, work: Any) -> int:
        """How many entries."""
        return work.in_list

    @admin.display(description="claims", ordering="claimed")
    def claim_count(self, work: Any) -> int:
        """How many claims."""
        return work.claimed

    @admin.display(description="page")
    def page(self, work: Work) -> str:
        """Where it is read and edited."""
        links = reverse("paper", args=[work.slug]), reverse("work-history", args=[work.slug])
        return format_html('<a href="{}">page</a> <a href="{}">history</a>', *links)


@admin.register(Entry)
class EntryAdmin(Curated):
    """Rows of the list."""

    list_display = ["title", "tag", "category", "month", "stars", "highlights", "bold"]
    list_filter = ["category", "stars", "highlights", "bold"]
    search_fields = ["title", "tag", "work__title", "work__slug"]
    list_select_related = ["category"]
    autocomplete_fields = ["work"]
    inlines = [LinkInline]


@admin.register(Claim)
class ClaimAdmin(Curated):
    """What works say."""

    list_display = ["key", "work", "statement", "value", "unit", "verified", "needs"]
    list_filter = ["verified", "direction", "needs"]
    search_fields = ["key", "statement", "work__title", "work__slug"]
    list_select_related = ["work"]
    autocomplete_fields = ["work"]


@admin.register(Link)
class LinkAdmin(Curated):
    """Links of entries."""

    list_display = ["url", "role", "label", "entry"]
    list_filter = ["role"]
    search_fields = ["url", "label", "entry__title"]
    list_select_related = ["entry"]
    autocomplete_fields = ["entry"]


@admin.register(Category)
class CategoryAdmin(Kept):
    """Headings of the list."""

    list_display = ["name", "slug", "position", "listed"]

    def get_queryset(self, request: HttpRequest) -> Any:
        """With counts."""
        return super().get_queryset(request).annotate(in_list=Count("entries"))

    @admin.display(ordering="in_list")
    def listed(self, category: Any) -> int:
        """How many entries."""
        return category.in_list


class Named(Audited):
    """Names that works share: a new spelling is known to search at once."""

    list_display = ["name", "listed"]
    search_fields = ["name"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """They are taken from works, on the work."""
        return False

    def get_queryset(self, request: HttpRequest) -> Any:
        """With counts."""
        return super().get_queryset(request).annotate(in_list=Count("works"))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Write and index."""
        super().save_model(request, obj, form, change)
        index.refresh(obj.works.values_list("pk", flat=True))

    @admin.display(description="works", ordering="in_list")
    def listed(self, row: Any) -> int:
        """How many works."""
        return row.in_list


admin.site.register([Author, Topic], Named)


@admin.register(ListImport)
class ListImportAdmin(Audited):
    """Read-only: lists are imported on their own page."""

    list_display = ["name", "user", "created_at", "applied_at"]
    list_select_related = ["user"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """On the import page."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What was uploaded stays as it was."""
        return False
