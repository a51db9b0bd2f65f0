// Checks a reader's number: right within one per cent; a whole number must be right itself.
"use strict";
for (const form of document.querySelectorAll(".exercise form")) {
  const answer = Number(form.dataset.answer), allowed = Number.isInteger(answer) ? 0 : Math.abs(answer) / 100;
  form.hidden = false;
  form.addEventListener("submit", event => {
    event.preventDefault();
    const typed = form.querySelector("input").value.replace(/\s/g, "").replace("\u2212", "-");
    const number = text => text.split("/").map(Number).reduce((above, below) => above / below);
    const given = number(typed.replaceAll(",", ".")), thousands = number(typed.replaceAll(",", "")); // 0,8 and 6,904
    const right = [given, thousands].some(value => Math.abs(value - answer) <= allowed);
    form.querySelector("output").textContent = !typed || Number.isNaN(thousands) ? "Type a number, such as 0.25 or 1/4."
      : right ? "Right." : "Not yet.";
  });
}
