// Handles over a picture: what of it can be dragged and pressed, drawn here and decided in Python.
//
// `state` says where things are (see tdpkit/show/handles.py); `ask` is what the reader wants. While a pointer
// moves, handles follow it here at once; Python answers with the exact picture and the number of the wish it
// answers. Values are frames or steps, exact beyond 2^53: decimal strings in messages, BigInt here.

const SVG = "http://www.w3.org/2000/svg";
const PARTS = 65536n; // of a stretch between two knots: finer than any pixel

function make(name, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, name);
  put(node, attributes);
  node.append(...children);
  return node;
}

function put(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) node.removeAttribute(name);
    else if (node.getAttribute(name) !== `${value}`) node.setAttribute(name, value);
  }
}

const clamp = (value, low, high) => (value < low ? low : value > high ? high : value);

function place(knots, value) {
  const after = knots.findIndex(([at]) => at >= value);
  if (after <= 0) return after < 0 ? knots[knots.length - 1][1] : knots[0][1];
  const [low, left] = knots[after - 1];
  const [high, right] = knots[after];
  return Math.floor(left + ((right - left) * Number(((value - low) * PARTS) / (high - low))) / Number(PARTS));
}

function valueAt(knots, x) {
  const after = knots.findIndex(([, at]) => at >= x);
  if (after <= 0) return after < 0 ? knots[knots.length - 1][0] : knots[0][0];
  const [low, left] = knots[after - 1];
  const [high, right] = knots[after];
  const part = BigInt(Math.round(((x - left) / (right - left)) * Number(PARTS)));
  return low + ((high - low) * part + PARTS / 2n) / PARTS; // the nearest
}

// The digits below `snap` stay: `from` moves by whole ones of it.
function snapped(from, to, snap) {
  const way = to - from;
  const half = way < 0n ? -snap / 2n : snap / 2n;
  return from + ((way + half) / snap) * snap;
}

function read(state) {
  const big = (one) => Object.fromEntries(Object.entries(one).map(([name, text]) => [name, BigInt(text)]));
  return {
    ...state,
    values: big(state.values ?? {}),
    spots: state.spots ?? [],
    sliders: (state.sliders ?? []).map((slider) => ({
      ...slider,
      ...big({ low: slider.low, high: slider.high, snap: slider.snap, step: slider.step, page: slider.page }),
      knots: slider.knots.map(([value, x]) => [BigInt(value), x]),
    })),
  };
}

// What the values become when `slider` goes to `value`: edges push each other.
function moved(values, slider, value, least) {
  if (slider.kind === "cursor") return { [slider.of]: clamp(value, slider.low, slider.high) };
  const { start, end } = values;
  if (slider.kind === "span") {
    const length = end - start;
    const first = clamp(value, slider.low, slider.high - length);
    return { start: first, end: first + length };
  }
  const to = clamp(value, slider.low, slider.high);
  if (slider.kind === "start") return { start: to, end: end < to + least ? to + least : end };
  return { start: start > to - least ? to - least : start, end: to };
}

const TAB = 13; // width of an edge's handle, units; what takes the pointer is wider
const REACH = 24;

function shapeOf(kind) {
  const hit = make("rect", { class: "hit" });
  const ring = make("rect", { class: "ring" });
  if (kind === "span") return make("g", { class: "span" }, make("rect", { class: "band" }), hit, ring);
  if (kind === "cursor") return make("g", { class: "cursor" }, make("path", { class: "line" }), hit, ring);
  return make("g", { class: "edge" }, make("path", { class: "line" }), make("path", { class: "grip" }), hit, ring);
}

function drawSlider(node, slider, values) {
  const { top, bottom, knots, kind } = slider;
  const [hit, ring] = [node.querySelector(".hit"), node.querySelector(".ring")];
  const box = (left, up, right, down) => {
    put(hit, { x: left, y: up, width: Math.max(right - left, 1), height: down - up });
    put(ring, { x: left - 1, y: up - 1, width: Math.max(right - left, 1) + 2, height: down - up + 2, rx: 4 });
  };
  if (kind === "span") {
    const [left, right] = [place(knots, values.start), place(knots, values.end)];
    put(node.querySelector(".band"), { x: left, y: top, width: Math.max(right - left, 1), height: bottom - top });
    box(left, top, right, bottom);
  } else if (kind === "cursor") {
    const x = place(knots, values[slider.of]);
    put(node.querySelector(".line"), { d: `M${x} ${top} V${bottom}` });
    box(knots[0][1], top, knots[knots.length - 1][1], bottom);
  } else {
    const x = place(knots, values[slider.of]);
    const [out, turn] = kind === "start" ? [-1, 0] : [1, 1];
    const y = bottom - 9;
    put(node.querySelector(".line"), { d: `M${x} ${top} V${bottom + 9}` });
    put(node.querySelector(".grip"), {
      d:
        `M${x} ${y} h${out * (TAB - 4)} a4 4 0 0 ${turn} ${out * 4} 4 v10 a4 4 0 0 ${turn} ${-out * 4} 4 H${x} Z ` +
        `M${x + out * 5} ${y + 5} v8 M${x + out * 9} ${y + 5} v8`,
    });
    const [left, right] = out < 0 ? [x - REACH, x + 3] : [x - 3, x + REACH];
    box(left, top, right, Math.max(bottom + 9, top + REACH));
  }
}

class Touch {
  constructor(model, el) {
    this.model = model;
    this.svg = make("svg", { class: "touch", role: "group", "aria-label": "on the picture" });
    this.sliders = make("g");
    this.spots = make("g");
    this.svg.append(this.spots, this.sliders);
    this.nodes = new Map();
    this.groups = new Map();
    this.wished = null; // values that Python has not answered yet
    this.drag = null;
    this.asked = model.get("ask").n ?? 0;
    el.append(this.svg);
    this.follow = () => this.update();
    model.on("change:state", this.follow);
    this.update();
    requestAnimationFrame(() => this.reveal()); // only then does it stand in the page
  }

  remove() {
    this.model.off("change:state", this.follow);
  }

  get values() {
    return { ...this.state.values, ...this.wished };
  }

  update() {
    this.state = read(this.model.get("state"));
    if (!this.drag && this.state.answered >= this.asked) this.wished = null;
    const [left, top, width, height] = this.state.view;
    put(this.svg, { viewBox: `${left} ${top} ${width} ${height}` });
    this.keep(this.sliders, this.state.sliders, (slider) => this.makeSlider(slider));
    this.keepSpots();
    this.draw();
    this.reveal();
  }

  // On a narrow page the picture is scrolled sideways: a step that was gone to comes into sight.
  reveal() {
    const slider = this.state.sliders.find(({ of }) => of === "step");
    const stage = this.svg.closest(".tdpkit-stage");
    if (!slider || !stage?.clientWidth || this.drag || this.values.step === this.revealed) return;
    this.revealed = this.values.step;
    const [left, , width] = this.state.view;
    const x = ((place(slider.knots, this.revealed) - left) / width) * stage.scrollWidth;
    const margin = Math.min(80, stage.clientWidth / 4);
    const room = stage.clientWidth - margin;
    if (x < stage.scrollLeft + margin) stage.scrollLeft = x - margin;
    else if (x > stage.scrollLeft + room) stage.scrollLeft = x - room;
  }

  // One node for each entry of `wanted`, by name: what has the focus or the pointer keeps it.
  keep(parent, wanted, makeNode) {
    const names = new Set(wanted.map((one) => one.name));
    for (const node of [...parent.children]) if (!names.has(node.dataset.name)) this.drop(node);
    for (const one of wanted) {
      if (!this.nodes.has(one.name)) {
        const node = makeNode(one);
        node.dataset.name = one.name;
        this.nodes.set(one.name, node);
        parent.append(node);
      }
    }
  }

  drop(node) {
    if (this.drag?.name === node.dataset.name) return; // it goes when it is let go
    this.nodes.delete(node.dataset.name);
    node.remove();
  }

  // ---- sliders ----

  slider(name) {
    return this.state.sliders.find((slider) => slider.name === name);
  }

  makeSlider({ name, kind, keyed }) {
    const node = shapeOf(kind);
    if (!keyed) node.classList.add("minor");
    put(node, keyed ? { role: "slider", tabindex: 0, "aria-orientation": "horizontal" } : { "aria-hidden": true });
    node.dataset.lmSuppressShortcuts = "true"; // JupyterLab would take the arrow keys for its cells
    // Else a finger scrolls the page: browsers do not heed touch-action inside an SVG.
    node.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
    node.addEventListener("pointerdown", (event) => this.press(event, name, node));
    node.addEventListener("pointermove", (event) => this.pull(event));
    node.addEventListener("pointerup", () => this.release());
    node.addEventListener("pointercancel", () => this.release());
    node.addEventListener("keydown", (event) => this.key(event, name));
    return node;
  }

  draw() {
    const values = this.values;
    for (const slider of this.state.sliders) {
      const node = this.nodes.get(slider.name);
      const held = this.drag?.name === slider.name;
      drawSlider(node, held ? { ...slider, knots: this.drag.knots } : slider, values);
      if (slider.keyed) {
        put(node, {
          "data-step": slider.step, // what a key moves by
          "aria-label": slider.label,
          "aria-valuetext": slider.text,
          // Numbers that scripts can compare; the words are what is read.
          "aria-valuenow": values[slider.of],
          "aria-valuemin": slider.low,
          "aria-valuemax": slider.high,
        });
      }
    }
  }

  unitsAt(event) {
    const box = this.svg.getBoundingClientRect();
    return this.state.view[0] + ((event.clientX - box.left) * this.state.view[2]) / box.width;
  }

  press(event, name, node) {
    const slider = this.slider(name);
    if (event.button || !slider) return;
    event.preventDefault(); // no text is selected; the focus is set here
    node.focus({ preventScroll: true });
    node.setPointerCapture(event.pointerId);
    const x = this.unitsAt(event);
    const from = this.values[slider.of];
    this.drag = { ...slider, from, before: this.values, grabbed: x - place(slider.knots, from) };
    this.svg.classList.add("dragging");
    if (slider.kind === "cursor") {
      this.drag.grabbed = 0;
      this.pull(event);
    }
  }

  pull(event) {
    const { drag } = this;
    if (!drag) return;
    const to = valueAt(drag.knots, this.unitsAt(event) - drag.grabbed);
    const low = drag.knots[0][0];
    const high = drag.knots[drag.knots.length - 1][0];
    // At an end of the stretch the end itself is meant, whatever the digits.
    this.wish(drag, to === low || to === high ? to : snapped(drag.from, to, drag.snap));
  }

  release() {
    if (!this.drag) return;
    this.drag = null;
    this.svg.classList.remove("dragging");
    this.update();
  }

  key(event, name) {
    const slider = this.slider(name);
    if (!slider || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "Escape" && this.drag) {
      this.wish(slider, this.drag.before[slider.of]);
      this.ask({ set: this.drag.before });
      this.release();
      return;
    }
    const by = event.shiftKey ? slider.page : slider.step;
    const now = this.values[slider.of];
    const to = {
      ArrowRight: now + by,
      ArrowUp: now + by,
      ArrowLeft: now - by,
      ArrowDown: now - by,
      PageUp: now + slider.page,
      PageDown: now - slider.page,
      Home: slider.low,
      End: slider.high,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    this.wish(slider, to);
  }

  // The values at once here, and as a wish to Python. No wish waits for a frame: a browser hands on one move of
  // the pointer a frame, and while the kernel is busy ipywidgets keeps the last message back.
  wish(slider, value) {
    const next = moved(this.values, slider, value, BigInt(this.state.least));
    const now = this.values;
    if (Object.entries(next).every(([name, to]) => now[name] === to)) return;
    this.wished = { ...this.wished, ...next };
    this.draw();
    this.ask({ set: next });
  }

  ask({ set, press }) {
    this.asked += 1;
    const texts = set && Object.fromEntries(Object.entries(set).map(([name, value]) => [name, `${value}`]));
    this.model.set("ask", { n: this.asked, ...(texts && { set: texts }), ...(press && { press }) });
    this.model.save_changes();
  }

  // ---- spots ----

  keepSpots() {
    this.keep(this.spots, this.state.spots, (spot) => this.makeSpot(spot));
    const groups = new Map();
    for (const [at, spot] of this.state.spots.entries()) {
      const node = this.nodes.get(spot.name);
      const [left, top, right, bottom] = spot.box;
      put(node, {
        x: left,
        y: top,
        width: right - left,
        height: bottom - top,
        "aria-label": spot.label,
        "aria-pressed": spot.chosen,
      });
      // In the order of the picture; what is in its place is not touched, or it would lose the focus.
      const there = this.spots.children[at];
      if (there !== node) this.spots.insertBefore(node, there);
      const group = spot.name.split(":")[0];
      groups.set(group, [...(groups.get(group) ?? []), node]);
    }
    // One stop of the Tab key for each group; arrow keys go on from there.
    for (const [name, nodes] of groups) {
      const now = document.activeElement;
      const stop =
        nodes.find((node) => node === now || node === this.groups.get(name)?.stop) ??
        nodes.find((node) => node.getAttribute("aria-pressed") === "true") ??
        nodes[0];
      for (const node of nodes) put(node, { tabindex: node === stop ? 0 : -1 });
      groups.set(name, { nodes, stop });
    }
    this.groups = groups;
  }

  makeSpot({ name }) {
    const node = make("rect", { class: "spot", role: "button", rx: 3 });
    node.dataset.lmSuppressShortcuts = "true";
    node.addEventListener("click", () => {
      this.goTo(name, node);
      this.ask({ press: name });
    });
    node.addEventListener("keydown", (event) => this.keyOnSpot(event, name, node));
    return node;
  }

  goTo(name, node) {
    const group = this.groups.get(name.split(":")[0]);
    if (!group) return;
    group.stop = node;
    for (const one of group.nodes) put(one, { tabindex: one === node ? 0 : -1 });
    node.focus({ preventScroll: true });
  }

  keyOnSpot(event, name, node) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const { nodes } = this.groups.get(name.split(":")[0]);
    const at = nodes.indexOf(node);
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: nodes.length - 1 };
    if (event.key === "Enter" || event.key === " ") {
      if (!event.repeat) this.ask({ press: name });
    } else if (event.key in to) {
      const next = nodes[clamp(to[event.key], 0, nodes.length - 1)];
      this.goTo(next.dataset.name, next);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

// What core widgets leave out, for the exhibit around: names of sliders and fields, and which button is chosen.
function completeNames(exhibit, stage) {
  const look = () => {
    for (const field of exhibit.querySelectorAll("[role=slider]:not([aria-label]), input:not([aria-label]), select")) {
      if (field.closest(".touch")) continue;
      if (field.tagName === "SELECT") field.dataset.lmSuppressShortcuts = "true";
      const label = field.closest(".jupyter-widgets")?.querySelector(".widget-label")?.textContent.trim();
      const name = field.title || label || field.closest("[title]")?.title;
      if (name && !field.labels?.[0]?.textContent.trim()) put(field, { "aria-label": name });
    }
    for (const button of exhibit.querySelectorAll(".widget-toggle-buttons button, button.widget-toggle-button")) {
      put(button, { "aria-pressed": button.classList.contains("mod-active") });
    }
    // A player's buttons are icons: play, pause, stop.
    for (const icon of exhibit.querySelectorAll(".widget-play button > i")) {
      const name = icon.className.match(/fa-(play|pause|stop)/)?.[1];
      if (name) put(icon.parentElement, { "aria-label": name });
    }
  };
  const observer = new MutationObserver((records) => {
    if (!records.every((record) => stage?.contains(record.target))) look();
  });
  observer.observe(exhibit, { subtree: true, childList: true, attributes: true, attributeFilter: ["class", "title"] });
  look();
  return observer;
}

function render({ model, el }) {
  el.classList.add("tdpkit");
  const touch = new Touch(model, el);
  let observer;
  let frame;
  const settle = () => {
    const exhibit = el.isConnected && el.closest(".tdpkit-live");
    if (exhibit) observer = completeNames(exhibit, el.closest(".tdpkit-stage"));
    else frame = requestAnimationFrame(settle);
  };
  settle();
  return () => {
    cancelAnimationFrame(frame);
    observer?.disconnect();
    touch.remove();
  };
}

export default { render };
