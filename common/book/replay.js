// Plays the recorded figures. Every number was computed by the chapters' code when the book was made; here marks are
// only put where the record says. A part is a group of marks: its record holds, by run and frame, the values of the
// attributes of mark after mark.
"use strict";

const calm = matchMedia("(prefers-reduced-motion: reduce)"); // nothing moves unasked; then one frame a second at most

for (const figure of document.querySelectorAll(".replay")) {
  const story = JSON.parse(figure.querySelector("script").textContent);
  const groups = [...figure.querySelectorAll(".part")];
  let run = 0, frame = story.captions[0].length - 1, timer = null;

  function put(mark, name, value) {
    if (name === "text") mark.textContent = value;
    else if (name === "mix") mark.style.setProperty("--mix", value + "%");
    else if (name === "colour") mark.style.setProperty("--own", `var(--c${value})`);
    else if (name === "grey") mark.setAttribute("fill", "#" + value + value + value);
    else mark.setAttribute(name, value);
  }

  function draw() {
    const last = story.captions[run].length - 1;
    frame = Math.max(0, Math.min(last, frame));
    story.parts.forEach((part, i) => {
      const names = part.set.split(" "), values = part.values[run][frame];
      [...groups[i].children].forEach((mark, k) =>
        names.forEach((name, j) => put(mark, name, values[k * names.length + j])));
    });
    said.textContent = story.captions[run][frame];
    for (const [slider, value] of sliders(frame)) {
      slider.max = story.plane ? story.plane - 1 : last;
      slider.value = value;
      slider.setAttribute("aria-valuetext", story.captions[run][frame]);
    }
    for (const [button, idle] of [[back, frame === 0], [on, frame === last]]) button.disabled = idle && !story.plane;
  }

  function go(to) { frame = to; draw(); }

  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
    said.setAttribute("aria-live", "polite");
  }

  function start() {
    if (frame === story.captions[run].length - 1) frame = -1;
    play.textContent = "Pause";
    said.setAttribute("aria-live", "off"); // not every frame is read out
    const next = () => { go(frame + 1); if (frame === story.captions[run].length - 1) stop(); };
    const pace = 6000 / Math.max(12, Math.min(30, story.captions[run].length));
    timer = setInterval(next, calm.matches ? Math.max(1000, pace) : pace);
    next();
  }

  // The controls: a choice of runs if there are several, buttons and a slider; for a plane two sliders.
  function add(parent, tag, properties) {
    return parent.appendChild(Object.assign(document.createElement(tag), properties));
  }
  const controls = figure.insertBefore(document.createElement("div"), figure.querySelector("figcaption"));
  controls.className = "controls";
  if (story.runs.length > 1) {
    const label = add(controls, "label", { textContent: "Run " });
    const choice = add(label, "select", {});
    story.runs.forEach((name, i) => add(choice, "option", { value: i, textContent: name }));
    choice.addEventListener("change", () => { stop(); run = Number(choice.value); go(0); });
  }
  const [back, play, on] = ["Back", "Play", "Step"].map(textContent => add(controls, "button", { type: "button", textContent }));
  back.addEventListener("click", () => { stop(); go(frame - 1); });
  on.addEventListener("click", () => { stop(); go(frame + 1); });
  play.addEventListener("click", () => timer === null ? start() : stop());
  const slide = { type: "range", min: 0, step: 1 };
  const ranges = story.plane ? ["z₁ ", "z₂ "].map(name => add(add(controls, "label", { textContent: name }), "input", slide))
    : [add(controls, "input", { ...slide, ariaLabel: "frame" })];
  const said = add(controls, "output", {});
  said.setAttribute("aria-live", "polite");

  function sliders(at) {
    return story.plane ? [[ranges[0], at % story.plane], [ranges[1], Math.floor(at / story.plane)]] : [[ranges[0], at]];
  }
  ranges.forEach(range => range.addEventListener("input", () => {
    stop();
    go(story.plane ? Number(ranges[0].value) + story.plane * Number(ranges[1].value) : Number(range.value));
  }));

  // In a plane, the place that a finger or a mouse points at is the frame.
  if (story.plane) {
    for (const button of [back, play, on]) button.remove();
    const panel = figure.querySelector("svg"), mark = groups[0].firstElementChild;
    const point = event => {
      if (event.type === "pointermove" && !event.buttons) return;
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(panel.getScreenCTM().inverse());
      const distance = ([x, y]) => (x - at.x) ** 2 + (y - at.y) ** 2;
      const places = story.parts[0].values[run];
      go(places.reduce((best, place, i) => distance(place) < distance(places[best]) ? i : best, 0));
      event.preventDefault();
    };
    mark.parentNode.dataset.plane = "";
    panel.style.touchAction = "none";
    for (const kind of ["pointerdown", "pointermove"]) panel.addEventListener(kind, point);
    frame = (story.plane * story.plane - 1) / 2; // the middle
  }
  draw();
}
