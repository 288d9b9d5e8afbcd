"""{{ work|bibtex }}"""

from django import template

from exports import citations

register = template.Library()
register.filter("bibtex", citations.bibtex)
