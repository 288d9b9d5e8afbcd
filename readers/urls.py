"""Pages of what readers keep: tokens, ratings, collections."""

from django.urls import path

from readers import collections_views, operator_views, ratings, views

urlpatterns = [
    path("enter/", views.enter, name="enter"),
    path("operator/", operator_views.overview, name="operator"),
    path("operator/sessions/end/", operator_views.end_session, name="session-end"),
    path("operator/tokens/<int:pk>/revoke/", operator_views.revoke_token, name="token-revoke-any"),
    path("operator/unlock/", operator_views.unlock, name="unlock"),
    path("accounts/tokens/", views.tokens, name="tokens"),
    path("accounts/tokens/<int:pk>/revoke/", views.revoke, name="token-revoke"),
    path("papers/<slug:slug>/rating/", ratings.rate_view, name="rate"),
    path("papers/<slug:slug>/collect/", collections_views.collect, name="collect"),
    path("collections/", collections_views.index, name="collections"),
    path("collections/new/", collections_views.create, name="collection-new"),
    path("collections/shared/<str:key>/", collections_views.shared, name="collection-shared"),
    path("collections/<int:pk>/", collections_views.detail, name="collection"),
    path("collections/<int:pk>/edit/", collections_views.edit, name="collection-edit"),
    path("collections/<int:pk>/delete/", collections_views.delete, name="collection-delete"),
    path("collections/<int:pk>/items/<int:item>/move/", collections_views.item_move, name="item-move"),
    path("collections/<int:pk>/items/<int:item>/note/", collections_views.item_note, name="item-note"),
    path("collections/<int:pk>/items/<int:item>/remove/", collections_views.item_remove, name="item-remove"),
]
