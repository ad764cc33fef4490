"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const one = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Drawing.

const NS = "http://www.w3.org/2000/svg";
const DASHES = ["", "6 3", "2 2", "8 3 2 3"];
const SHADES = 6;
const WIDEST = 1200;

function draw(parent, tag, attributes, text) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

function extent(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

function ticks(low, high, count, whole) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  let step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= raw);
  if (whole) step = Math.max(1, Math.round(step));
  const values = [];
  for (let at = Math.ceil(low / step) * step; at <= high + 1e-9; at += step) values.push(+at.toPrecision(10));
  return values;
}

// 1, 2 and 5 times the powers of ten.
function logTicks(low, high) {
  const values = [];
  for (let power = 10 ** Math.floor(Math.log10(low)); power <= high; power *= 10) {
    values.push(...[1, 2, 5].map((factor) => factor * power).filter((value) => value >= low && value <= high));
  }
  return values;
}

const scaler = ([low, high], from, to) => (value) => from + ((value - low) / (high - low)) * (to - from);
const path = (points, x, y) => points.map(([a, b], i) => `${i ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
const written = (value) => (typeof value === "number" ? value.toLocaleString("en", { maximumSignificantDigits: 6 }) : value);
const colour = (i) => `var(--c${i % 6})`;

// No wider than the window, so that words keep their size on a phone.
const room = (parent, most = WIDEST) => Math.max(260, Math.min(most, parent.clientWidth || most));

// A frame with both axes. The labels of x keep 70 pixels from each other.
function frame(parent, { title, xs, ys, xLabel, yLabel, height = 360, most = WIDEST, wholeX = false, logX = false }) {
  const width = room(parent, most);
  const svg = draw(parent, "svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
  const at = logX ? Math.log10 : (value) => value;
  const linear = scaler(xs.map(at), 56, width - 16);
  const [x, y] = [(value) => linear(at(value)), scaler(ys, height - 46, 28)];
  for (const value of ticks(...ys, 5, false)) {
    draw(svg, "line", { class: "axis", x1: 56, x2: width - 16, y1: y(value), y2: y(value) });
    draw(svg, "text", { x: 50, y: y(value) + 4, "text-anchor": "end" }, written(value));
  }
  let last = -Infinity;
  const even = ticks(...xs, Math.max(2, Math.floor(width / 90)), wholeX);
  const marks = logX && logTicks(...xs).length > 2 ? logTicks(...xs) : even;
  for (const value of marks) {
    if (x(value) - last < 70 && logX) continue;
    last = x(value);
    draw(svg, "text", { x: last, y: height - 28, "text-anchor": "middle" }, written(value));
  }
  draw(svg, "text", { x: width / 2, y: height - 8, "text-anchor": "middle" }, xLabel);
  draw(svg, "text", { x: 4, y: 12 }, yLabel);
  return { svg, x, y, width, height };
}

// Beyond the low and the high value by a twentieth of their difference.
function padded([low, high]) {
  const margin = (high - low) / 20;
  return [low - margin, high + margin];
}

// Shows the values of the nearest point; `points` are [x, y, words] in the chart's own units.
function hover(parent, { svg, x, y, width }, points) {
  const mark = draw(svg, "circle", { r: 5, class: "hovered", visibility: "hidden" });
  const tip = document.createElement("output");
  tip.className = "tip";
  tip.hidden = true;
  parent.classList.add("hoverable");
  parent.append(tip);
  const show = (event) => {
    const box = svg.getBoundingClientRect();
    const scale = width / box.width;
    const [px, py] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    let nearest;
    let least = 40 ** 2;
    for (const point of points) {
      const distance = (x(point[0]) - px) ** 2 + (y(point[1]) - py) ** 2;
      if (distance < least) [least, nearest] = [distance, point];
    }
    tip.hidden = !nearest;
    mark.setAttribute("visibility", nearest ? "visible" : "hidden");
    if (!nearest) return;
    const [left, top] = [x(nearest[0]), y(nearest[1])];
    mark.setAttribute("cx", left);
    mark.setAttribute("cy", top);
    tip.textContent = nearest[2];
    tip.style.top = `${svg.getBoundingClientRect().top - parent.getBoundingClientRect().top + top / scale + 12}px`;
    const room = parent.clientWidth - tip.offsetWidth;
    tip.style.left = `${Math.max(0, Math.min(room, left / scale - tip.offsetWidth / 2))}px`;
  };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", () => {
    tip.hidden = true;
    mark.setAttribute("visibility", "hidden");
  });
}

// One figure per chart: `series` have a label and one line per fold and seed, `faint` lines have none.
function lineChart(parent, { faint = [], series, level, ...given }) {
  const points = [...faint, ...series.flatMap((each) => each.lines)].flat();
  if (!points.length) return;
  const [xs, ys] = [0, 1].map((axis) => extent(points.map((point) => point[axis])));
  const drawn = frame(parent, { wholeX: true, xs, ys: padded(level === undefined ? ys : extent([...ys, level])), ...given });
  const { svg, x, y, width } = drawn;
  if (level !== undefined) draw(svg, "line", { class: "level", x1: 56, x2: width - 16, y1: y(level), y2: y(level) });
  if (faint.length) draw(svg, "path", { class: "all", d: faint.map((line) => path(line, x, y)).join("") });
  series.forEach((each, i) => {
    const d = each.lines.map((line) => path(line, x, y)).join("");
    draw(svg, "path", { class: "series", d, style: `stroke:${colour(i)}`, "stroke-dasharray": DASHES[i % 4] });
    if (each.mark) draw(svg, "circle", { cx: x(each.mark[0]), cy: y(each.mark[1]), r: 5, style: `fill:${colour(i)}` });
  });
  const words = (label, [a, b]) => `${label}: ${written(b)} at ${given.xName ?? given.xLabel} ${written(a)}`;
  hover(parent, drawn, series.flatMap((each) => each.lines.flat().map((point) => [...point, words(each.label, point)])));
  keys(parent, series.map((each) => each.label), level === undefined ? [] : ["chance"]);
}

function keys(parent, labels, levels = []) {
  const list = document.createElement("ul");
  list.className = "keys";
  const add = (label, attributes) => {
    const item = document.createElement("li");
    const svg = draw(item, "svg", { viewBox: "0 0 30 10", "aria-hidden": "true" });
    draw(svg, "line", { x1: 0, x2: 30, y1: 5, y2: 5, ...attributes });
    item.append(label);
    list.append(item);
  };
  labels.forEach((label, i) => add(label, { style: `stroke:${colour(i)};stroke-width:2`, "stroke-dasharray": DASHES[i % 4] }));
  for (const label of levels) add(label, { class: "level" });
  parent.append(list);
}

// What the sections draw.

const FIGURES = {
  validation_loss: ["validation loss", "loss (nats)"],
  train_loss: ["training loss", "loss (nats)"],
  ua_clean: ["validation UA, clean", "UA (%)"],
  ua_noisy: ["validation UA, noisy", "UA (%)"],
};
const [SETTINGS, UA, CURVES, PARAMETERS, WON] = [0, 1, 2, 3, 4];
const numbered = (values) => values.map((value, i) => [i + 1, value]);
const isUa = (figure) => figure.startsWith("ua_");

function drawRow(parent, trials) {
  const small = { xLabel: trials.length > 1 ? "epoch, one line per fold and seed" : "epoch", xName: "epoch", most: 520, height: 240 };
  const lines = (name) => trials.map((curves) => numbered(curves[name]));
  const series = (names) => names.map((name) => ({ label: FIGURES[name][0], lines: lines(name) }));
  lineChart(parent, { ...small, title: "losses by epoch", yLabel: "loss (nats)", series: series(["train_loss", "validation_loss"]) });
  lineChart(parent, {
    ...small, title: "validation UA by epoch", yLabel: "UA (%)", level: data.chance,
    series: series(data.conditions.map((condition) => `ua_${condition}`)),
  });
}

function drawCurves() {
  const group = data.groups[one("#curves-group").value];
  const figure = one("#curves-figure").value;
  const chart = one("#curves-chart");
  chart.replaceChildren();
  const winners = new Map();
  for (const trial of group.trials.filter((each) => each[WON].length)) {
    const settings = group.names.map((name, i) => `${name} = ${trial[SETTINGS][i]}`);
    const label = `best, ${trial[WON].map((i) => data.conditions[i]).join(" and ")}${settings.length ? ": " : ""}${settings.join(", ")}`;
    winners.set(label, [...(winners.get(label) ?? []), numbered(trial[CURVES][figure])]);
  }
  lineChart(chart, {
    title: `${FIGURES[figure][0]} of ${group.title}`, xLabel: "epoch", yLabel: FIGURES[figure].join(": "),
    level: isUa(figure) ? data.chance : undefined,
    faint: group.trials.filter((trial) => !trial[WON].length).map((trial) => numbered(trial[CURVES][figure])),
    series: [...winners].map(([label, lines]) => ({ label, lines })),
  });
}

// No other point is both cheaper and better than one on the front.
function paretoFront(points) {
  const front = [];
  for (const point of [...points].sort((a, b) => a[0] - b[0] || b[1] - a[1])) {
    if (!front.length || point[1] > front.at(-1)[1]) front.push(point);
  }
  return front;
}

function drawCost() {
  const chart = one("#cost-chart");
  chart.replaceChildren();
  const [kind, condition] = ["#cost-kind", "#cost-condition"].map((id) => +one(id).value);
  const [label, unit] = COSTS[kind];
  const points = data.groups.flatMap((group, i) => group.configurations
    .filter((each) => each[kind] !== null && each[2][condition] !== null)
    .map((each) => [each[kind], each[2][condition], `${group.title}${each[3] ? `, ${each[3]}` : ""}: ${each[2][condition]} %, ${written(each[kind])} ${unit}`, i, each[4].includes(condition)]));
  if (!points.length) {
    chart.append("No model of this kind has such a figure.");
    return;
  }
  const [xs, ys] = [0, 1].map((axis) => extent(points.map((point) => point[axis])));
  const drawn = frame(chart, {
    title: `validation UA against ${label}`, xLabel: label, yLabel: `validation UA (%), ${data.conditions[condition]}`,
    xs: [xs[0] / 1.2, xs[1] * 1.2], ys: padded(ys), logX: true,
  });
  const { svg, x, y } = drawn;
  const front = paretoFront(points);
  draw(svg, "path", { class: "front", d: path(front, x, y) });
  for (const [a, b, , i, won] of points) {
    dot(svg, x(a), y(b), won ? 6 : 4, i, won);
  }
  hover(chart, drawn, points);
  dots(chart, data.groups.map((group) => group.title));
}

// Once all colours are used, they come again with squares.
function dot(svg, x, y, r, i, filled) {
  const look = { class: "dot", style: `stroke:${colour(i)};fill:${filled ? colour(i) : "none"}` };
  if (i % 12 < 6) draw(svg, "circle", { cx: x, cy: y, r, ...look });
  else draw(svg, "rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r, ...look });
}

const COSTS = [["parameters", "parameters"], ["million multiply-adds per second of speech", "million multiply-adds per second"]];

function dots(parent, labels) {
  const list = document.createElement("ul");
  list.className = "keys";
  labels.forEach((label, i) => {
    const item = document.createElement("li");
    const svg = draw(item, "svg", { viewBox: "0 0 30 10", "aria-hidden": "true" });
    dot(svg, 15, 5, 4, i, true);
    item.append(label);
    list.append(item);
  });
  parent.append(list);
}

function drawImportance() {
  const parent = one("#importance-charts");
  parent.replaceChildren();
  for (const group of data.groups) {
    for (const [condition, shares] of Object.entries(group.importance)) {
      if (!shares) continue;
      const entries = Object.entries(shares);
      const figure = document.createElement("figure");
      const caption = document.createElement("figcaption");
      caption.textContent = `${group.title}, ${condition}`;
      figure.append(caption);
      parent.append(figure);
      const [width, height] = [room(figure, 560), 26 * entries.length + 8];
      const title = `importance in ${group.title}, ${condition}`;
      const svg = draw(figure, "svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
      const x = scaler([0, 100], 130, width - 60);
      entries.forEach(([name, share], i) => {
        draw(svg, "text", { x: 122, y: 26 * i + 20, "text-anchor": "end" }, name);
        draw(svg, "rect", { x: 130, y: 26 * i + 8, width: Math.max(1, x(share) - 130), height: 16, class: "share" });
        draw(svg, "text", { x: x(share) + 6, y: 26 * i + 20 }, `${share.toFixed(1)} %`);
      });
    }
  }
  if (!parent.hasChildNodes()) parent.append("No space varies two settings over four configurations or more.");
}

function drawHistory() {
  const chart = one("#history-chart");
  chart.replaceChildren();
  const group = data.groups[one("#history-group").value];
  const condition = +one("#history-condition").value;
  const values = group.trials.map((trial) => trial[UA][condition]);
  if (values.includes(null)) {
    chart.append(`${group.title} is not validated under the ${data.conditions[condition]} condition.`);
    return;
  }
  const points = numbered(values);
  let best = -Infinity;
  const bests = points.map(([number, ua]) => [number, (best = Math.max(best, ua))]);
  const drawn = frame(chart, {
    title: `history of ${group.title}`, xLabel: "trial, in the order in which they finished", yLabel: `validation UA (%), ${data.conditions[condition]}`,
    xs: extent(points.map(([number]) => number)), ys: padded(extent(values)), wholeX: true,
  });
  for (const [number, ua] of points) draw(drawn.svg, "circle", { cx: drawn.x(number), cy: drawn.y(ua), r: 3, class: "dot", style: `stroke:${colour(0)};fill:${colour(0)}` });
  draw(drawn.svg, "path", { class: "series", d: path(bests, drawn.x, drawn.y), style: `stroke:${colour(1)}` });
  const settings = (i) => group.names.map((name, j) => `${name} = ${group.trials[i][SETTINGS][j]}`).join(", ");
  hover(chart, drawn, points.map(([number, ua], i) => [number, ua, `trial ${number}: ${ua} %${group.names.length ? `, ${settings(i)}` : ""}`]));
  keys(chart, ["a trial", "the best so far"]);
}

// A setting's axis: to scale where it holds numbers, logarithmic where they span decades; names in order of appearance.
function axis(name, values) {
  const numeric = values.every((value) => typeof value === "number");
  const names = [...new Set(values.map(String))];
  const [low, high] = numeric ? extent(values) : [0, 0];
  const log = low > 0 && high / low >= 30;
  const at = log ? Math.log10 : numeric ? (value) => value : (value) => names.indexOf(String(value));
  const range = extent(values.map(at));
  const marks = !numeric || names.length <= 8 ? [...new Set(values)] : [low, high];
  return { name, at, range, marks };
}

function drawCoordinates() {
  const group = data.groups[one("#coordinates-group").value];
  const condition = +one("#coordinates-condition").value;
  const share = +one("#coordinates-best").value;
  one("#coordinates-share").value = `${share} %`;
  const chart = one("#coordinates-chart");
  chart.replaceChildren();
  const columns = [
    ...group.names.map((name, i) => [name, group.trials.map((trial) => trial[SETTINGS][i])]),
    ["parameters", group.trials.map((trial) => trial[PARAMETERS])],
    // A model that is trained on clean speech only has no noisy figure.
    ["validation UA (%)", group.trials.map((trial) => trial[UA][condition] ?? trial[UA].find((ua) => ua !== null))],
  ];
  const [width, height] = [room(chart), 360];
  const svg = draw(chart, "svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `settings and validation UA of ${group.title}` });
  const axes = columns.map(([name, values]) => axis(name, values));
  const x = scaler([0, Math.max(1, axes.length - 1)], 50, width - 70);
  const ys = axes.map((each) => scaler(each.range, height - 24, 46));
  const ua = columns.at(-1)[1];
  const order = [...ua.keys()].sort((a, b) => ua[a] - ua[b]).slice(Math.floor(ua.length * (1 - share / 100)));
  const [low, high] = axes.at(-1).range;
  const bins = Array(SHADES).fill("");
  for (const trial of order) {
    const bin = Math.min(SHADES - 1, Math.floor(((ua[trial] - low) / (high - low)) * SHADES));
    bins[bin] += path(columns.map(([, values], i) => [i, ys[i](axes[i].at(values[trial]))]), x, (value) => value);
  }
  bins.forEach((d, i) => {
    if (d) draw(svg, "path", { d, fill: "none", style: `stroke:var(--b${i})`, "stroke-width": 1.5, class: "coordinate" });
  });
  // Names that would run into each other stand on two lines in turn.
  const narrow = axes.some((each, i) => i && (each.name.length + axes[i - 1].name.length) * 3.5 + 8 > x(1) - x(0));
  axes.forEach((each, i) => {
    draw(svg, "line", { class: "axis", x1: x(i), x2: x(i), y1: 46, y2: height - 24 });
    draw(svg, "text", { x: x(i), y: narrow && i % 2 ? 26 : 12, "text-anchor": "middle" }, each.name);
    // Marks that would cover each other are left out.
    const taken = [];
    for (const mark of each.marks) {
      const top = ys[i](each.at(mark)) - 4;
      if (taken.some((other) => Math.abs(other - top) < 13)) continue;
      taken.push(top);
      draw(svg, "text", { x: x(i) + 4, y: top }, typeof mark === "number" ? mark.toLocaleString("en", { maximumSignificantDigits: 8 }) : mark);
    }
  });
}

function drawSweeps() {
  one("#sweeps-charts").replaceChildren();
  for (const sweep of data.sweeps) {
    for (const [condition, curve] of Object.entries(sweep.curves)) {
      const points = (values) => values.map((value, i) => [sweep.h1[i], value]);
      const peak = [curve.peak, curve.ua[sweep.h1.indexOf(curve.peak)]];
      const [h1, test] = curve.paper ?? [];
      const paper = { label: `the paper's peak, h1 = ${h1} (test UA there: ${test}, on eNTERFACE'05)`, lines: [extent(curve.ua).map((ua) => [h1, ua])] };
      lineChart(one("#sweeps-charts"), {
        title: `${sweep.title}, ${condition}`, xLabel: "h1", yLabel: `UA (%), ${condition}, ${sweep.title}`,
        series: [
          { label: `validation UA, peak at h1 = ${curve.peak} (test UA there: ${curve.test})`, lines: [points(curve.ua)], mark: peak },
          { label: "running median", lines: [points(curve.filtered)] },
          ...(curve.paper ? [paper] : []),
        ],
      });
    }
  }
}

// A winner's panels; a dot's `data-of` is its utterance, the same in all of them.

const SIZE = 999;
const tint = (number, count) => (count <= 6 ? `var(--c${number})` : `hsl(${(360 * number) / count} 60% 52%)`);

function drawModules() {
  const [found, winner] = one("#modules-winner").value.split(" ").map(Number);
  const { classes, winners } = data.modules[found];
  const { panels } = winners[winner];
  const grid = one("#modules-panels");
  grid.replaceChildren(...panels.map((panel) => drawPanel(panel, classes[panel.attribute])));
  grid.style.setProperty("--columns", new Set(panels.map((panel) => panel.module)).size);
  one("#modules-name").textContent = "\u00a0";
}

function drawPanel({ attribute, module, rho, points, labels }, { short, of }) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = `${attribute}, ${module}: ρ = ${rho}`;
  figure.append(caption);
  const [width, height, margin] = [400, 320, 14];
  const svg = draw(figure, "svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": caption.textContent });
  const x = scaler([0, SIZE], margin, width - margin);
  const y = scaler([0, SIZE], height - margin, margin);
  const centres = short.map(() => [0, 0, 0]);
  of.forEach((number, i) => {
    const [a, b] = [points[2 * i], points[2 * i + 1]];
    draw(svg, "circle", { cx: x(a).toFixed(1), cy: y(b).toFixed(1), r: 3, "data-of": i, style: `fill:${tint(number, short.length)}` });
    centres[number] = [centres[number][0] + a, centres[number][1] + b, centres[number][2] + 1];
  });
  centres.forEach(([a, b, count], number) => {
    const [left, up] = [x(labels[2 * number]), y(labels[2 * number + 1])];
    draw(svg, "line", { x1: x(a / count), y1: y(b / count), x2: left, y2: up });
    draw(svg, "text", { x: left, y: up + 4 }, short[number]);
  });
  return figure;
}

function nameUtterance(event) {
  const i = event.target.dataset.of;
  if (i === undefined) return;
  const { names, classes } = data.modules[one("#modules-winner").value.split(" ")[0]];
  const labels = Object.entries(classes).map(([attribute, { full, of }]) => `${attribute} ${full[of[i]]}`);
  const words = `${names[i]}: ${labels.join(", ")}`;
  one("#modules-name").textContent = words;
  for (const circle of all("#modules-panels .marked")) circle.classList.remove("marked");
  for (const circle of all(`#modules-panels [data-of="${i}"]`)) circle.classList.add("marked");
  if (!event.target.hasChildNodes()) draw(event.target, "title", {}, words);
}
