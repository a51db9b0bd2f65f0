// Checks a reader's number: right within one per cent, or within half of the last digit that the answer gives.
"use strict";
for (const form of document.querySelectorAll(".exercise form")) {
  const answer = Number(form.dataset.answer), digits = (form.dataset.answer.split(".")[1] || "").length;
  form.hidden = false;
  form.addEventListener("submit", event => {
    event.preventDefault();
    const typed = form.querySelector("input").value.trim().replace(",", ".").replace("\u2212", "-");
    const [above, below = "1"] = typed.split("/"), given = Number(above) / Number(below);
    const right = Math.abs(given - answer) <= Math.max(Math.abs(answer) / 100, 0.5 / 10 ** digits);
    form.querySelector("output").textContent = !typed || Number.isNaN(given) ? "Type a number, such as 0.25 or 1/4."
      : right ? "Right." : "Not yet.";
  });
}
