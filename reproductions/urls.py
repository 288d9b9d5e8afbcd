"""Pages of works and runs."""

from django.urls import path

from reproductions import views

urlpatterns = [
    path("papers/<slug:slug>/", views.paper, name="paper"),
    path("papers/<slug:slug>/run/", views.run_start, name="run_start"),
    path("claims/", views.claims, name="claims"),
    path("runs/", views.runs, name="runs"),
    path("runs/<int:pk>/", views.run, name="run"),
    path("runs/<int:pk>/cancel/", views.run_cancel, name="run_cancel"),
    path("runs/<int:pk>/plots/<int:index>.svg", views.plot, name="run_plot"),
]
