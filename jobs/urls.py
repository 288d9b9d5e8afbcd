"""Pages about the machinery."""

from django.urls import path

from jobs import views

urlpatterns = [
    path("health/", views.health, name="health"),
    path("health/live", views.live, name="live"),
    path("health/ready", views.ready, name="ready"),
    path("metrics", views.metrics, name="metrics"),
    path("nodes/", views.nodes, name="nodes"),
    path("nodes/<int:pk>/drain/", views.node_drain, name="node_drain"),
    path("jobs/start/<slug:kind>/", views.job_start, name="job_start"),
    path("jobs/<int:pk>/", views.job, name="job"),
    path("jobs/<int:pk>/cancel/", views.job_cancel, name="job_cancel"),
    path("failures/", views.failures, name="failures"),
]
