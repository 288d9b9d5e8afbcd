"""What leaves as a file."""

from django.urls import path

from exports import views

urlpatterns = [path("runs/<int:pk>/crate.zip", views.crate, name="crate")]
