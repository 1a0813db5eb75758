"use strict";
// Values on hover, by mouse, finger or arrow keys; without this script the browser shows the titles itself.
const tip = document.getElementById("tip");
const said = new Map();
let lit = null;

for (const title of document.querySelectorAll(".mark > title")) {
  said.set(title.parentElement, title.textContent);
  title.remove();
}

function show(mark, x, y) {
  hide();
  lit = mark;
  mark.classList.add("lit");
  tip.textContent = said.get(mark);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = Math.min(Math.max(8, x - box.width / 2), document.documentElement.clientWidth - box.width - 8);
  const above = y - box.height - 14;
  tip.style.transform = `translate(${left}px, ${above > 8 ? above : y + 18}px)`;
}

function hide() {
  if (lit) lit.classList.remove("lit");
  lit = null;
  tip.hidden = true;
}

function point(x, y) {
  const under = document.elementFromPoint(x, y);
  const mark = under ? under.closest(".mark") : null;
  if (mark && said.has(mark)) show(mark, x, y);
  else hide();
}

let last = null; // where the pointer is; null while the keys are in use
for (const kind of ["pointermove", "pointerdown"]) {
  document.addEventListener(kind, (event) => {
    last = [event.clientX, event.clientY];
    point(...last);
  });
}
document.addEventListener("scroll", () => (last ? point(...last) : hide()), { passive: true });

// Within a plot the arrow keys go from mark to mark.
document.addEventListener("keydown", (event) => {
  const plot = document.activeElement;
  if (event.key === "Escape") return hide();
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step || !plot || !plot.matches("svg.plot")) return;
  const marks = [...plot.querySelectorAll(".mark")];
  if (!marks.length) return;
  event.preventDefault();
  last = null;
  const now = marks.indexOf(lit);
  const next = now < 0 ? (step > 0 ? 0 : marks.length - 1) : (now + step + marks.length) % marks.length;
  const box = marks[next].getBoundingClientRect();
  show(marks[next], box.left + box.width / 2, box.top);
});
document.addEventListener("focusout", hide);

// The contents say where the reader is.
const entries = new Map();
for (const link of document.querySelectorAll("nav a")) entries.set(link.hash.slice(1), link.parentElement);
const seen = new IntersectionObserver((changes) => {
  for (const change of changes) {
    if (!change.isIntersecting) continue;
    for (const entry of entries.values()) entry.classList.remove("here");
    entries.get(change.target.id).classList.add("here");
  }
}, { rootMargin: "-15% 0px -75% 0px" });
for (const section of document.querySelectorAll("section")) seen.observe(section);

// Paper shows everything.
addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details")) fold.open = true;
});
