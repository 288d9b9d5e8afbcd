"""The forms of curators: facts of a work, entries, links, claims. What they write goes through catalog.curation."""

import datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.text import slugify

from catalog import arxiv_ids, curation
from catalog.changes import MONTH, read_date
from catalog.models import Claim, Entry, Link, Work
from config.told import Visible, Web

UNDATED = (datetime.date(1, 1, 1), Work.Precision.NONE)
LONG = forms.Textarea(attrs={"rows": 3})


class Curated(Visible, forms.ModelForm):
    """A form whose change is somebody's, perhaps with a reason."""

    reason = forms.CharField(max_length=100, required=False, label="Why", help_text="for the history; may stay empty")

    def fields_of(self) -> dict[str, Any]:
        """What was changed, as the model has it."""
        return {name: self.cleaned_data[name] for name in self.changed_data if name != "reason"}

    def end(self) -> int:
        """Where a new row goes: after the others."""
        raise NotImplementedError

    def written(self, user: Any) -> bool:
        """Write it if it is in order; what is not is told on the form."""
        if not self.is_valid():
            return False
        try:
            if self.instance.pk:
                curation.change(self.instance, self.fields_of(), user, self.cleaned_data["reason"])
            else:
                self.instance.position = self.end()
                curation.add(self.instance, user, self.cleaned_data["reason"])
        except ValidationError as error:
            self.add_error(None, error.messages)  # type: ignore[arg-type]
            return False
        return True


class WorkForm(Curated):
    """Facts of a work, its authors and topics included."""

    published = forms.CharField(required=False, help_text="YYYY, YYYY-MM or YYYY-MM-DD, as far as it is known")
    url = Web(label="Address")
    authors = forms.CharField(required=False, widget=forms.Textarea(attrs={"rows": 4}), help_text="one a line")
    topics = forms.CharField(required=False, help_text="kv-cache, attention, …")

    class Meta:
        model = Work
        fields = ["title", "kind", "published", "venue", "published_title", "url", "arxiv_id", "doi",
                  "authors_complete", "metadata_verified"]  # fmt: skip
        labels = {"arxiv_id": "arXiv id", "doi": "DOI", "metadata_verified": "Facts verified"}

    field_order = ["title", "kind", "published", "venue", "published_title", "url", "arxiv_id", "doi", "authors",
                   "authors_complete", "topics", "metadata_verified"]  # fmt: skip

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        told = curation.values(self.instance)
        self.initial.update({"published": self.instance.published_text, "authors": "\n".join(told["authors"])})
        self.initial["topics"] = ", ".join(told["topics"])

    def clean_published(self) -> Any:
        """The first day of what is known."""
        try:
            day, self.precision = read_date(text) if (text := self.cleaned_data["published"]) else UNDATED
        except ValueError:
            raise ValidationError("Expected YYYY, YYYY-MM or YYYY-MM-DD.") from None
        return day

    def clean_arxiv_id(self) -> str | None:
        """An id, also from an address."""
        text = self.cleaned_data["arxiv_id"]
        if text and not arxiv_ids.find(text):
            raise ValidationError("Expected an arXiv id, such as 2309.06180.")
        return arxiv_ids.find(text) if text else None

    def clean_authors(self) -> list[str]:
        """Names, in order."""
        names = [" ".join(line.split()) for line in self.cleaned_data["authors"].splitlines()]
        names = list(dict.fromkeys(filter(None, names)))
        if any(len(name) > 200 for name in names):
            raise ValidationError("A name has 200 letters at most.")
        return names

    def clean_topics(self) -> list[str]:
        """Slugs, each once."""
        return sorted(set(filter(None, (slugify(part)[:80] for part in self.cleaned_data["topics"].split(",")))))

    def _post_clean(self) -> None:
        """The instance is not touched: authors and topics are no fields of it, and a date is two."""

    def said(self) -> dict[str, Any]:
        """All that the form says, the date with how far it is known."""
        told = {name: value for name, value in self.cleaned_data.items() if name != "reason"}
        return told | {"published_precision": self.precision}

    def fields_of(self) -> dict[str, Any]:
        """What was changed of it."""
        changed = {*self.changed_data, *(("published_precision",) if "published" in self.changed_data else ())}
        return {name: value for name, value in self.said().items() if name in changed}


class EntryForm(Curated):
    """A work in a category, as the list has it."""

    stars = forms.IntegerField(min_value=0, max_value=5, initial=0)
    highlights = forms.IntegerField(min_value=0, max_value=5, initial=0, label="Flames")
    month = forms.RegexField(
        MONTH, required=False, help_text="YYYY-MM", error_messages={"invalid": "Expected a month, 2023-10."}
    )

    class Meta:
        model = Entry
        fields = ["category", "month", "tag", "bold", "title", "stars", "highlights"]
        labels = {"bold": "Tag in bold"}
        help_texts = {"bold": ""}

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["tag"].required = False
        if not self.instance.pk:
            self.initial.setdefault("title", self.instance.work.title)
            self.initial.setdefault("month", self.instance.work.published_text[:7])

    def end(self) -> int:
        """At the end of its category."""
        return curation.next_position(self.cleaned_data["category"].entries)


class LinkForm(Curated):
    """A link of one of the work's entries."""

    url = Web(label="Address")

    class Meta:
        model = Link
        fields = ["entry", "role", "label", "url"]

    def __init__(self, *args: Any, work: Work, **options: Any) -> None:
        super().__init__(*args, **options)
        choices: Any = self.fields["entry"]
        choices.queryset, choices.empty_label = work.entries.select_related("category"), None
        choices.label_from_instance = lambda entry: entry.category.name

    def end(self) -> int:
        """At the end of its entry."""
        return curation.next_position(self.cleaned_data["entry"].links)


class ClaimForm(Curated):
    """What a work says of itself."""

    source = Web(required=False, help_text="the address where it can be read")

    class Meta:
        model = Claim
        fields = ["key", "statement", "metric", "direction", "value", "unit", "conditions", "place", "source",
                  "verified", "needs"]  # fmt: skip
        widgets = {"statement": LONG, "metric": forms.TextInput, "conditions": LONG, "place": forms.TextInput}
        help_texts = {"key": "a short name, once a work; checks refer to it", "verified": ""}

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.instance.pk:
            del self.fields["key"]  # checks refer to it

    def end(self) -> int:
        """After the others."""
        return curation.next_position(self.instance.work.claims)
