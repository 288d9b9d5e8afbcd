"""Pages of works and runs."""

from django.urls import path

from reproductions import comparison_views, feeds, views

urlpatterns = [
    path("plots/vega-<str:version>.js", views.plot_bundle, name="plot_bundle"),
    path("papers/<slug:slug>/run/", views.run_start, name="run_start"),
    path("kernels/", views.kernel_list, name="kernels"),
    path("kernels/roofline/<int:index>.svg", views.roofline, name="roofline"),
    path("kernels/roofline/<int:index>.<slug:form>", views.roofline, name="roofline"),
    path("kernels/<path:name>/", views.kernel, name="kernel"),
    path("claims/", views.claims, name="claims"),
    path("runs/", views.runs, name="runs"),
    path("runs/<int:pk>/", views.run, name="run"),
    path("runs/compare", comparison_views.compare, name="compare"),
    path("runs/compare/plots/<int:index>.svg", comparison_views.compare_plot, name="compare_plot"),
    path("runs/compare/plots/<int:index>.<slug:form>", comparison_views.compare_plot, name="compare_plot_as"),
    path("papers/<slug:slug>/claims/<slug:key>/", comparison_views.claim, name="claim"),
    path("papers/<slug:slug>/claims/<slug:key>/<int:index>.svg", comparison_views.claim_plot, name="claim_plot"),
    path(
        "papers/<slug:slug>/claims/<slug:key>/<int:index>.<slug:form>",
        comparison_views.claim_plot,
        name="claim_plot_as",
    ),
    path("feeds/runs.atom", feeds.runs, name="runs-feed"),
    path("runs/<int:pk>/again/", views.run_again, name="run_again"),
    path("runs/<int:pk>/cancel/", views.run_cancel, name="run_cancel"),
    path("runs/<int:pk>/plots/<int:index>.svg", views.plot, name="run_plot"),
    path("runs/<int:pk>/plots/<int:index>.<slug:form>", views.plot, name="run_plot_as"),
]
