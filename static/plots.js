// Draws the plots that come into view with the same specification that the server drew, and lets them be hovered over.
"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");
const drawn = new Set();
let loaded;

async function draw(figure) {
  const box = figure.querySelector(".drawn");
  loaded ??= import(figure.dataset.bundle);
  const theme = dark.matches ? "dark" : "light";
  const [answer] = await Promise.all([fetch(`${figure.dataset.plot}theme=${theme}`), loaded]);
  if (!answer.ok) return; // the server's drawing stays
  const specification = await answer.json();
  specification.width = Math.min(box.clientWidth, 620);
  specification.autosize = { type: "fit", contains: "padding" };
  specification.height += 70;
  const name = specification.title;
  const place = document.createElement("div");
  await window.vegaEmbed(place, specification, {
    ast: true, defaultStyle: false, actions: false, renderer: "svg", tooltip: { disableDefaultStyle: true },
  });
  place.querySelector("svg")?.setAttribute("aria-label", `Plot: ${name}`);
  box.replaceChildren(place);
}

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((one) => one.isIntersecting)) {
    seen.unobserve(entry.target);
    drawn.add(entry.target);
    draw(entry.target);
  }
}, { rootMargin: "300px" });

function watch() {
  for (const figure of document.querySelectorAll("[data-plot]:not([data-watched])")) {
    figure.dataset.watched = "";
    seen.observe(figure);
  }
}

watch();
document.addEventListener("htmx:afterSettle", watch);
dark.addEventListener("change", () => drawn.forEach(draw));
