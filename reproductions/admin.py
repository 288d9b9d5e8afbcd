from django.contrib import admin

from reproductions.models import Reproduction, Run

admin.site.register(Reproduction, list_display=["work", "spec_hash", "retired"])
admin.site.register(Run, list_display=["pk", "reproduction", "size", "device", "spec_hash"])
