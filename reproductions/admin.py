from django.contrib import admin

from config.admin import Audited
from reproductions.models import Reproduction, Run

admin.site.register(Reproduction, Audited, list_display=["work", "measurement", "retired"])
admin.site.register(Run, Audited, list_display=["pk", "reproduction", "size", "device", "measurement"])
