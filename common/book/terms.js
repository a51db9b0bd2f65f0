// Equation, line, number: pointing at a term lights up the lines that compute it and its value in the worked example,
// and pointing at such a line or value lights up the term. A tap holds the light until the next one; so does focus.
"use strict";
for (const section of document.querySelectorAll("section:has(.worked)")) {
  const marked = [...section.querySelectorAll("[data-term]")];
  const numbers = element => element ? element.dataset.term.split(" ") : [];
  let held = null;

  function light(element) {
    const lit = numbers(element);
    for (const each of marked) each.classList.toggle("lit", numbers(each).some(number => lit.includes(number)));
  }

  section.classList.add("linked");
  const stops = new Set();
  for (const term of section.querySelectorAll(".equation [data-term]")) {
    if (stops.has(term.dataset.term)) continue; // a term is one stop of the keyboard, however often it is written
    stops.add(term.dataset.term);
    term.tabIndex = 0;
  }
  const at = event => event.target.closest("[data-term]");
  section.addEventListener("pointerover", event => light(at(event) || held));
  section.addEventListener("pointerleave", () => light(held));
  section.addEventListener("focusin", event => light(at(event)));
  section.addEventListener("focusout", () => light(held));
  section.addEventListener("click", event => { held = at(event) === held ? null : at(event); light(held); });
  section.addEventListener("keydown", event => { if (event.key === "Escape") light(held = null); });
}
