// Draws the plots that come into view with the same specification that the server drew, and lets them be hovered over.
"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");
const drawn = new Set();
let loaded;

// Words in as many lines as the width asks for; a letter is about so many pixels wide.
function lines(words, width, letter) {
  const found = [""];
  for (const word of words.split(" ")) {
    const longer = `${found.at(-1)} ${word}`.trim();
    if (longer.length * letter > width && found.at(-1)) found.push(word);
    else found[found.length - 1] = longer;
  }
  return found;
}

// A narrower drawing has its title and its axis' title in lines, and fewer columns of its legend.
function fit(specification, width) {
  const share = width / specification.width;
  specification.width = width;
  specification.title = lines(specification.title, width - 24, 7.2);
  for (const { encoding } of specification.layer) {
    if (encoding.x?.title) encoding.x.title = lines(encoding.x.title, width - 60, 6.2);
    for (const { legend } of Object.values(encoding)) {
      if (legend?.columns) legend.columns = Math.max(1, Math.floor(legend.columns * Math.min(share, 1)));
    }
  }
}

async function draw(figure) {
  const box = figure.querySelector(".drawn");
  loaded ??= import(figure.dataset.bundle);
  const theme = dark.matches ? "dark" : "light";
  const [answer] = await Promise.all([fetch(`${figure.dataset.plot}theme=${theme}`), loaded]);
  if (!answer.ok) return; // the server's drawing stays
  const specification = await answer.json();
  const name = specification.title;
  fit(specification, Math.min(box.clientWidth, 620));
  specification.autosize = { type: "fit", contains: "padding" };
  specification.height += 70;
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
