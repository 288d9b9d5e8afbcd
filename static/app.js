// Keys and small comforts; every page works without this file.
"use strict";

document.documentElement.classList.add("js");

const rows = () => [...document.querySelectorAll("tr[data-row] a.title")];

function moveBy(step) {
  const links = rows();
  const at = links.indexOf(document.activeElement);
  const next = links[Math.max(0, Math.min(links.length - 1, at + step))];
  if (next) next.focus();
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, select, textarea, [contenteditable]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const actions = {
    "/": () => document.querySelector("#q")?.focus(),
    j: () => moveBy(1),
    k: () => moveBy(-1),
    r: () => document.querySelector("[data-run]")?.focus(),
  };
  if (actions[event.key]) {
    event.preventDefault();
    actions[event.key]();
  }
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = document.querySelector(button.dataset.copy).textContent;
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Select it and press Ctrl-C";
  }
  setTimeout(() => (button.textContent = before), 2000);
});

// A log that is followed stays at its end, unless the reader has scrolled up.
let follows = true;
document.addEventListener("htmx:beforeSwap", () => {
  const log = document.querySelector("[data-follow]");
  follows = !log || log.scrollHeight - log.scrollTop - log.clientHeight < 40;
});
document.addEventListener("htmx:afterSettle", () => {
  const log = document.querySelector("[data-follow]");
  if (log && follows) log.scrollTop = log.scrollHeight;
});
