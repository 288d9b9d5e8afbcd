// Keys and small comforts; every page reads without this file.
"use strict";

document.documentElement.classList.add("js");

const find = (selector) => document.querySelector(selector);

// --- keys
function moveBy(step) {
  const links = [...document.querySelectorAll("[data-row] a.title, [data-row] a.row")];
  const at = links.indexOf(document.activeElement);
  const next = links[at < 0 ? 0 : Math.max(0, Math.min(links.length - 1, at + step))];
  if (!next) return;
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}

function showKeys() {
  const dialog = find("#keys");
  if (!dialog.open) dialog.showModal();
}

function toCitation() {
  const box = find("#cite");
  if (!box) return;
  box.scrollIntoView({ block: "start" });
  (box.parentElement.querySelector("[data-copy]") || box).focus({ preventScroll: true });
}

const keys = {
  "/": () => find("#q")?.focus(),
  j: () => moveBy(1),
  k: () => moveBy(-1),
  r: () => find("[data-run]")?.focus(),
  c: toCitation,
  "?": showKeys,
};

document.addEventListener("keydown", (event) => {
  if (event.target.id === "q" && ["Escape", "ArrowDown"].includes(event.key)) {
    event.preventDefault();
    event.target.blur();
    if (event.key === "ArrowDown") moveBy(1);
    return;
  }
  const typing = event.target.matches("input, select, textarea, [contenteditable]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || find("dialog[open]")) return;
  if (keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  }
});

// --- copying
async function copy(button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(find(button.dataset.copy).innerText);
    button.textContent = "Copied";
    say("Copied");
  } catch {
    button.textContent = "Select it and press Ctrl-C";
  }
  setTimeout(() => (button.textContent = before), 2000);
}

// --- what a screen reader is told: only when it changes
function say(words) {
  const live = find("#announce");
  if (live && live.textContent !== words) live.textContent = words;
}

// --- a log: followed unless the reader has scrolled up, paused, searched
const log = { follows: true, paused: false, held: null };

function pause(button) {
  log.paused = !log.paused;
  button.setAttribute("aria-pressed", String(log.paused));
  button.textContent = log.paused ? "Go on" : "Pause";
  if (!log.paused && log.held !== null) {
    find("#log").textContent = log.held;
    log.held = null;
    search();
    toEnd();
  }
}

function toEnd() {
  const box = find("[data-follow]");
  if (box && log.follows && !log.paused) box.scrollTop = box.scrollHeight;
}

function search(step = 0) {
  const box = find("#log");
  const words = find("#log-search")?.value.toLowerCase();
  if (!box || words === undefined) return;
  const text = box.textContent;
  const pieces = [];
  let hits = 0;
  for (let end = 0, at; ; end = at + words.length) {
    at = words ? text.toLowerCase().indexOf(words, end) : -1;
    pieces.push(text.slice(end, at < 0 ? undefined : at));
    if (at < 0) break;
    const mark = document.createElement("mark");
    mark.textContent = text.slice(at, at + words.length);
    pieces.push(mark);
    hits += 1;
  }
  if (words || box.querySelector("mark")) box.replaceChildren(...pieces);
  find("#log-hits").textContent = words ? `${hits} found` : "";
  if (!hits || !step) return;
  const marks = [...box.querySelectorAll("mark")];
  search.at = (((search.at ?? -1) + step) % hits + hits) % hits;
  marks[search.at].classList.add("here");
  box.scrollTop = marks[search.at].offsetTop - box.offsetTop - box.clientHeight / 2;
  find("#log-hits").textContent = `${search.at + 1} of ${hits}`;
}

document.addEventListener("input", (event) => {
  if (event.target.id !== "log-search") return;
  search.at = undefined;
  log.follows = !event.target.value;
  search();
});
document.addEventListener("keydown", (event) => {
  if (event.target.id !== "log-search" || event.key !== "Enter") return;
  event.preventDefault();
  search(event.shiftKey ? -1 : 1);
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.copy) copy(button);
  if ("pause" in button.dataset) pause(button);
  if ("keys" in button.dataset) showKeys();
});

document.addEventListener("htmx:oobBeforeSwap", (event) => {
  if (event.detail.target.id !== "log") return;
  const box = event.detail.target;
  log.follows = box.scrollHeight - box.scrollTop - box.clientHeight < 40 && !find("#log-search").value;
  if (log.paused) {
    log.held = event.detail.fragment.textContent;
    event.detail.shouldSwap = false;
  }
});
document.addEventListener("htmx:oobAfterSwap", (event) => {
  if (event.detail.target.id !== "log") return;
  search();
  toEnd();
});
document.addEventListener("htmx:afterSettle", () => {
  const told = find("[data-announce]");
  if (told) say(told.dataset.announce);
});
toEnd();
