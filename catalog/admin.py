from django.contrib import admin

from catalog.models import Category, Claim, Entry, Work

admin.site.register(Category, list_display=["name", "position"])
admin.site.register(Work, list_display=["slug", "title", "published", "kind"], search_fields=["title", "slug"])
admin.site.register(Entry, list_display=["tag", "category", "work", "month", "stars", "highlights"])
admin.site.register(Claim, list_display=["work", "key", "value", "unit", "verified"], list_filter=["verified"])
