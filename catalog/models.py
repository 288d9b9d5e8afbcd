"""The curated papers: works, the list's entries, and the claims the papers make."""

from django.conf import settings
from django.db import models
from simple_history.models import HistoricalRecords

from catalog import licences
from config import clock
from config.told import Told


class Category(Told):
    """A heading of the list, in the list's order."""

    name = models.CharField(max_length=200, unique=True)
    slug = models.SlugField(max_length=80, unique=True)
    position = models.PositiveIntegerField()
    bundled = models.CharField(max_length=16, blank=True, editable=False, help_text="digest of the file it came from")

    history = HistoricalRecords()

    class Meta:
        ordering = ["position"]
        verbose_name_plural = "categories"

    def __str__(self) -> str:
        return self.name


class Author(Told):
    """A person or group, by name."""

    name = models.CharField(max_length=200, unique=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Topic(Told):
    """A subject of works, such as kv-cache."""

    name = models.SlugField(max_length=80, unique=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Authorship(models.Model):
    """An author's place among a work's authors."""

    work = models.ForeignKey("Work", on_delete=models.CASCADE, related_name="authorships")
    author = models.ForeignKey(Author, on_delete=models.PROTECT, related_name="authorships")
    position = models.PositiveIntegerField()

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["work", "position"], name="author_position_once")]

    def __str__(self) -> str:
        return f"{self.author} of {self.work}"


ARXIV_FIELDS = [
    "abstract", "arxiv_version", "arxiv_updated", "arxiv_primary", "arxiv_categories", "arxiv_comment", "journal_ref",
    "withdrawn", "licence", "licence_version", "arxiv_synced_at", "arxiv_differences",
]  # fmt: skip


class WorkQuerySet(models.QuerySet):
    """Works as pages need them."""

    def for_list(self) -> "WorkQuerySet":
        """With all that a row of the list shows, and all that a search reads."""
        return self.select_related("reproduction").prefetch_related(
            "authorships__author", "topics", "claims", "entries__category", "entries__links"
        )

    def for_index(self) -> "WorkQuerySet":
        """With all that a search reads."""
        return self.prefetch_related("authorships__author", "topics", "claims", "entries__category")

    def for_page(self) -> "WorkQuerySet":
        """With all that the page of one work shows."""
        return self.for_list()


class Work(Told):
    """A paper, blog post, notes, docs page or survey of the list."""

    class Kind(models.TextChoices):
        PAPER = "paper", "paper"
        SURVEY = "survey", "survey"
        BLOG = "blog", "blog post"
        DOCS = "docs", "documentation"
        NOTES = "notes", "course notes"

    class Precision(models.TextChoices):
        DAY = "day"
        MONTH = "month"
        YEAR = "year"
        NONE = "none", "not known"

    slug = models.SlugField(max_length=80, unique=True)
    title = models.CharField(max_length=400)
    kind = models.CharField(max_length=10, choices=Kind)
    arxiv_id = models.CharField(max_length=20, null=True, blank=True, unique=True)
    doi = models.CharField(max_length=120, blank=True)
    url = models.URLField(max_length=400)
    published = models.DateField(help_text="the first day of what is known")
    published_precision = models.CharField(max_length=5, choices=Precision, default=Precision.DAY)
    venue = models.CharField(max_length=200, blank=True)
    published_title = models.CharField(
        max_length=400, blank=True, help_text="the title at the venue, where it differs from the preprint's"
    )
    authors_complete = models.BooleanField(default=True)
    metadata_verified = models.BooleanField(default=False)
    metadata_source = models.CharField(max_length=400, blank=True)
    authors = models.ManyToManyField(Author, through=Authorship, related_name="works")
    topics = models.ManyToManyField(Topic, related_name="works")
    # What arXiv says: a sync writes these and nobody else does, so people's forms and the history leave them out.
    abstract = models.TextField(blank=True, editable=False)
    arxiv_version = models.PositiveIntegerField(null=True, editable=False, help_text="the newest, so their number")
    arxiv_updated = models.DateTimeField(null=True, editable=False, help_text="when the newest version came")
    arxiv_primary = models.CharField(max_length=40, blank=True, editable=False)
    arxiv_categories = models.JSONField(default=list, blank=True, editable=False)
    arxiv_comment = models.TextField(blank=True, editable=False)
    journal_ref = models.TextField(blank=True, editable=False)
    withdrawn = models.BooleanField(default=False, editable=False)
    licence = models.CharField(max_length=200, blank=True, editable=False, help_text="address of its licence")
    licence_version = models.PositiveIntegerField(null=True, editable=False, help_text="the version it was asked for")
    arxiv_synced_at = models.DateTimeField(null=True, editable=False)
    arxiv_differences = models.JSONField(
        default=list, blank=True, editable=False, help_text="[fact, ours, arXiv's]: people decide"
    )
    bundled = models.CharField(max_length=16, blank=True, editable=False, help_text="digest of the file it came from")

    objects = WorkQuerySet.as_manager()
    history = HistoricalRecords(m2m_fields=[authors, topics], excluded_fields=ARXIV_FIELDS)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.title

    @property
    def published_text(self) -> str:
        """The date as far as it is known: 2023-09-29, 2023-10, 2022 or nothing."""
        return self.published.isoformat()[: {"day": 10, "month": 7, "year": 4, "none": 0}[self.published_precision]]

    @property
    def licence_name(self) -> str:
        """What the licence is called, or its address; empty if it is not known."""
        return licences.name(self.licence)


class Standing(models.Model):
    """What runs and readers said of a work, for search and facets. Other apps write it, through catalog.index."""

    work = models.OneToOneField(Work, on_delete=models.CASCADE, related_name="standing")
    runnable = models.BooleanField(default=False)
    verdicts = models.JSONField(default=list, help_text="[device, outcome] of each claim that was measured")
    newest = models.DateTimeField(null=True, blank=True, help_text="when the newest of these results was measured")
    rating = models.FloatField(default=0.0, help_text="the readers' mean, drawn towards the middle where few rated")
    ratings = models.PositiveIntegerField(default=0, help_text="how many readers rated it")

    def __str__(self) -> str:
        return f"{self.work.slug}: {len(self.verdicts)} verdicts"


class SearchWord(models.Model):
    """A word of the catalogue and in how many works it is: what a misspelt word may have been."""

    word = models.CharField(max_length=80, unique=True)
    length = models.PositiveIntegerField(db_index=True)
    works = models.PositiveIntegerField()

    def __str__(self) -> str:
        return self.word


class SearchVersion(models.Model):
    """One row, with another number after every change that search or facets show."""

    number = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return str(self.number)


class Entry(Told):
    """A work in a category of the list, with what its curator wrote: month, tag, title, flames, stars."""

    category = models.ForeignKey(Category, on_delete=models.CASCADE, related_name="entries")
    work = models.ForeignKey(Work, on_delete=models.CASCADE, related_name="entries")
    position = models.PositiveIntegerField()
    month = models.CharField(max_length=7, blank=True, help_text="the month as listed, 2023-10")
    tag = models.CharField(max_length=120, blank=True)
    bold = models.BooleanField(default=False, help_text="whether the list sets the tag in bold")
    title = models.CharField(max_length=400)
    highlights = models.PositiveIntegerField(default=0, help_text="flames")
    stars = models.PositiveIntegerField(default=0)
    bundled = models.CharField(max_length=16, blank=True, editable=False, help_text="digest of the file it came from")

    history = HistoricalRecords()

    class Meta:
        ordering = ["category__position", "position"]
        verbose_name_plural = "entries"
        constraints = [
            models.UniqueConstraint(
                fields=["category", "work"],
                name="entry_once",
                violation_error_message="This work is in that category already.",
            ),
            models.CheckConstraint(
                condition=models.Q(stars__lte=5), name="entry_stars", violation_error_message="Stars are 0 to 5."
            ),
        ]

    def __str__(self) -> str:
        return f"[{self.tag}] {self.title}"


class Link(Told):
    """A link of an entry, as the list has it."""

    class Role(models.TextChoices):
        PAPER = "paper"
        CODE = "code"

    entry = models.ForeignKey(Entry, on_delete=models.CASCADE, related_name="links")
    role = models.CharField(max_length=5, choices=Role)
    label = models.CharField(max_length=120)
    url = models.URLField(max_length=400)
    position = models.PositiveIntegerField()

    history = HistoricalRecords()

    class Meta:
        ordering = ["role", "position"]

    def __str__(self) -> str:
        return self.url


class Claim(Told):
    """What a work says of itself: a statement, perhaps a figure, and where it stands. Our bounds are not here."""

    class Direction(models.TextChoices):
        ABOUT = "about", "about"
        AT_MOST = "at_most", "at most"
        AT_LEAST = "at_least", "at least"
        TREND = "trend", "stated without a single figure"

    class Needs(models.TextChoices):
        ANY = "any"
        CUDA = "cuda"
        MULTI_GPU = "multi-gpu"

    work = models.ForeignKey(Work, on_delete=models.CASCADE, related_name="claims")
    key = models.SlugField(max_length=80)
    position = models.PositiveIntegerField()
    statement = models.TextField()
    metric = models.TextField(blank=True)
    direction = models.CharField(max_length=10, choices=Direction)
    value = models.FloatField(null=True, blank=True)
    unit = models.CharField(max_length=200, blank=True)
    conditions = models.TextField(blank=True)
    place = models.TextField(blank=True, help_text="where in the work it stands")
    source = models.URLField(max_length=400, blank=True)
    verified = models.BooleanField(default=False, help_text="whether the figure was seen in the work or a full copy")
    needs = models.CharField(max_length=10, choices=Needs, default=Needs.ANY)
    bundled = models.CharField(max_length=16, blank=True, editable=False, help_text="digest of the file it came from")

    history = HistoricalRecords()

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(
                fields=["work", "key"],
                name="claim_once",
                violation_error_message="This work has a claim with that key already.",
            )
        ]

    def __str__(self) -> str:
        return f"{self.work.slug}: {self.key}"


class ListImport(models.Model):
    """A list that was uploaded: looked at first, applied later or never."""

    name = models.CharField(max_length=200, help_text="the file's name")
    text = models.TextField()
    digest = models.CharField(max_length=64, help_text="of the plan that was shown; another plan is not applied")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    applied_at = models.DateTimeField(null=True, blank=True)
    result = models.JSONField(default=dict, help_text="how many works were created, updated, left, once applied")

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.name


class ArxivGate(models.Model):
    """One row that every process asks before a request to arXiv: whose turn it is, from when on, and not at all."""

    holder = models.CharField(max_length=32, blank=True, help_text="who is asking arXiv now")
    free_at = models.DateTimeField(default=clock.now, help_text="when the next request may begin")
    frozen_until = models.DateTimeField(null=True, blank=True, help_text="after a 403 nothing is fetched for a day")
    reason = models.CharField(max_length=300, blank=True)

    def __str__(self) -> str:
        return f"free at {self.free_at}"


class ArxivAnswer(models.Model):
    """What arXiv answered to an address: the same is asked once a day at most."""

    digest = models.CharField(max_length=64, unique=True)
    url = models.TextField()
    body = models.BinaryField()
    at = models.DateTimeField()

    def __str__(self) -> str:
        return self.url
