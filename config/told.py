"""Rows and forms of text that people wrote: what is hidden in it is refused, with the field that has it."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import models

from config.text import NotPlain, plain_link, visible


class Told(models.Model):
    """A row whose text can be seen and whose links lead where they seem to, wherever a form or `clean_fields` asks."""

    class Meta:
        abstract = True

    def clean_fields(self, exclude: Any = None) -> None:
        """Besides what Django asks of each field; a link is written with its host in ASCII."""
        super().clean_fields(exclude=exclude)
        wrong: dict[str, list[str]] = {}
        for field in self._meta.concrete_fields:
            value = getattr(self, field.attname)
            if field.name in (exclude or ()) or not field.editable or not isinstance(value, str) or not value:
                continue
            try:
                if isinstance(field, models.URLField):
                    setattr(self, field.attname, plain_link(value))
                else:
                    visible(value, lines=isinstance(field, models.TextField))
            except NotPlain as error:
                wrong[field.name] = [said(error)]
        if wrong:
            raise ValidationError(wrong)


class Visible:
    """A form whose text can be seen; put it before Django's own class."""

    def clean(self: Any) -> dict[str, Any] | None:
        """Each text of it, with the field it came in."""
        cleaned = super().clean()  # type: ignore[misc]
        for name, value in list(self.cleaned_data.items()):
            texts = value if isinstance(value, list) else [value]
            try:
                for text in texts:
                    if isinstance(text, str):
                        visible(text, lines=isinstance(self.fields[name].widget, forms.Textarea))
            except NotPlain as error:
                self.add_error(name, said(error))
        return cleaned


class Web(forms.URLField):
    """An address of the web; https where none is said, its host in ASCII."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=400, assume_scheme="https", **options)

    def clean(self, value: Any) -> str:
        """Refused as a form has it."""
        found = super().clean(value)
        try:
            return plain_link(found) if found else found
        except NotPlain as error:
            raise ValidationError(said(error)) from None


def said(error: NotPlain) -> str:
    """As a sentence."""
    text = str(error)
    return f"{text[0].upper()}{text[1:]}."
