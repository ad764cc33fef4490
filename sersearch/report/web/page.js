"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const one = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// The leaderboard: sorted by its headings, filtered by the selects, opened row by row.

const bodies = all(".board > tbody");

function sortBy(header, button) {
  const numeric = button.dataset.kind === "number";
  const before = header.getAttribute("aria-sort");
  const descending = before === "none" ? numeric && button.textContent !== "place" : before === "ascending";
  for (const other of all(".board th[aria-sort]")) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const column = header.cellIndex;
  const value = (body) => {
    const cell = body.rows[0].cells[column];
    return numeric ? cell.dataset.value : cell.textContent.trim();
  };
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === "" || y === "") return (x === "") - (y === "");
    const order = numeric ? x - y : x.localeCompare(y, "en", { numeric: true });
    return descending ? -order : order;
  };
  one(".board").append(...bodies.sort(compare));
}

for (const button of all(".board th button")) {
  button.addEventListener("click", () => sortBy(button.closest("th"), button));
}

function filter() {
  const wanted = all(".filters[aria-label] select").filter((select) => select.value);
  let shown = 0;
  for (const body of bodies) {
    body.hidden = !wanted.every((select) => body.dataset[select.name] === select.value);
    shown += !body.hidden;
  }
  const total = bodies.length;
  one("#count").value = `${shown === total ? "" : `${shown} of `}${total} row${total === 1 ? "" : "s"}`;
}

for (const select of all(".filters[aria-label] select")) select.addEventListener("change", filter);

function toggle(body) {
  const button = one(".toggle button", body);
  const details = one(".details", body);
  details.hidden = !details.hidden;
  button.setAttribute("aria-expanded", String(!details.hidden));
  drawDetails(body);
}

function drawDetails(body) {
  const curves = one(".row-curves", body);
  if (curves && !curves.hasChildNodes()) drawRow(curves, data.rows[curves.dataset.row]);
}

for (const body of bodies) {
  one(".entry", body).addEventListener("click", (event) => {
    if (event.target.closest("button") || String(getSelection()) === "") toggle(body);
  });
}

for (const button of all(".copy")) {
  button.addEventListener("click", async () => {
    const code = one("code", button.parentElement);
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(code);
    }
  });
}

// Charts.

const NS = "http://www.w3.org/2000/svg";
const DASHES = ["", "6 3", "2 2", "8 3 2 3"];
const SHADES = 6;

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
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + 1e-9; at += step) found.push(+at.toPrecision(10));
  return found;
}

const scaler = ([low, high], from, to) => (value) => from + ((value - low) / (high - low)) * (to - from);
const path = (points, x, y) => points.map(([a, b], i) => `${i ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");

// No wider than the window, so that words keep their size on a phone.
const room = (parent, most) => Math.max(260, Math.min(most, parent.clientWidth || most));

// One series per figure, with one line per seed.
function lineChart(parent, { title, faint = [], series, xLabel, yLabel, most = 860, height = 320 }) {
  const width = room(parent, most);
  const svg = draw(parent, "svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
  const points = [...faint, ...series.flatMap((each) => each.lines)].flat();
  const [xs, ys] = [0, 1].map((axis) => extent(points.map((point) => point[axis])));
  const [x, y] = [scaler(xs, 48, width - 12), scaler(ys, height - 42, 26)];
  for (const at of ticks(...ys, 5, false)) {
    draw(svg, "line", { class: "axis", x1: 48, x2: width - 12, y1: y(at), y2: y(at) });
    draw(svg, "text", { x: 42, y: y(at) + 4, "text-anchor": "end" }, at);
  }
  for (const at of ticks(...xs, width > 500 ? 12 : 6, true)) {
    draw(svg, "text", { x: x(at), y: height - 24, "text-anchor": "middle" }, at);
  }
  draw(svg, "text", { x: width / 2, y: height - 6, "text-anchor": "middle" }, xLabel);
  draw(svg, "text", { x: 4, y: 10 }, yLabel);
  if (faint.length) draw(svg, "path", { class: "all", d: faint.map((line) => path(line, x, y)).join("") });
  series.forEach((each, i) => {
    const style = `stroke:var(--c${i % 6})`;
    const d = each.lines.map((line) => path(line, x, y)).join("");
    draw(svg, "path", { class: "series", d, style, "stroke-dasharray": DASHES[i % 4] });
    if (each.mark) draw(svg, "circle", { cx: x(each.mark[0]), cy: y(each.mark[1]), r: 5, style: `fill:var(--c${i % 6})` });
  });
  keys(parent, series);
}

function keys(parent, series) {
  const list = document.createElement("ul");
  list.className = "keys";
  series.forEach((each, i) => {
    const item = document.createElement("li");
    const svg = draw(item, "svg", { viewBox: "0 0 30 10", "aria-hidden": "true" });
    const style = `stroke:var(--c${i % 6});stroke-width:2`;
    draw(svg, "line", { x1: 0, x2: 30, y1: 5, y2: 5, style, "stroke-dasharray": DASHES[i % 4] });
    item.append(each.label);
    list.append(item);
  });
  parent.append(list);
}

const numbered = (values) => values.map((value, i) => [i + 1, value]);

function drawRow(parent, seeds) {
  const small = { xLabel: seeds.length > 1 ? "epoch, one line per seed" : "epoch", most: 420, height: 220 };
  const lines = (key) => seeds.map((curves) => numbered(curves[key]));
  lineChart(parent, {
    ...small, title: "losses by epoch", yLabel: "loss (nats)",
    series: [["train_loss", "training"], ["validation_loss", "validation"]].map(([key, label]) => ({ label, lines: lines(key) })),
  });
  lineChart(parent, {
    ...small, title: "validation UA by epoch", yLabel: "UA (%)",
    series: data.conditions.map((condition) => ({ label: `validation, ${condition}`, lines: lines(`ua_${condition}`) })),
  });
}

function choose(select, entries, changed) {
  for (const [value, title] of entries) select.add(new Option(title, value));
  select.addEventListener("change", changed);
}

function drawCurves() {
  const group = data.groups[one("#curves-group").value];
  const chart = one("#curves-chart");
  chart.replaceChildren();
  const [SETTINGS, LOSSES, WON] = [0, 2, 4];
  const winners = new Map();
  for (const trial of group.trials.filter((each) => each[WON].length)) {
    const settings = group.names.map((name, i) => `${name} = ${trial[SETTINGS][i]}`);
    const label = `best, ${trial[WON].map((i) => data.conditions[i]).join(" and ")}${settings.length ? ": " : ""}${settings.join(", ")}`;
    winners.set(label, [...(winners.get(label) ?? []), numbered(trial[LOSSES])]);
  }
  lineChart(chart, {
    title: `validation losses of ${group.title}`, xLabel: "epoch", yLabel: "validation loss",
    faint: group.trials.filter((trial) => !trial[WON].length).map((trial) => numbered(trial[LOSSES])),
    series: [...winners].map(([label, lines]) => ({ label, lines })),
  });
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
  const [SETTINGS, UA, PARAMETERS] = [0, 1, 3];
  const columns = [
    ...group.names.map((name, i) => [name, group.trials.map((trial) => trial[SETTINGS][i])]),
    ["parameters", group.trials.map((trial) => trial[PARAMETERS])],
    // A model that is trained on clean speech only has no noisy figure.
    ["validation UA (%)", group.trials.map((trial) => trial[UA][condition] ?? trial[UA].find((ua) => ua !== null))],
  ];
  const [width, height] = [room(chart, 860), 340];
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
  const narrow = x(1) - x(0) < 110;
  axes.forEach((each, i) => {
    draw(svg, "line", { class: "axis", x1: x(i), x2: x(i), y1: 46, y2: height - 24 });
    // Names that would run into each other stand on two lines in turn.
    draw(svg, "text", { x: x(i), y: narrow && i % 2 ? 26 : 12, "text-anchor": "middle" }, each.name);
    for (const mark of each.marks) draw(svg, "text", { x: x(i) + 4, y: ys[i](each.at(mark)) - 4 }, typeof mark === "number" ? mark.toLocaleString("en", { maximumSignificantDigits: 8 }) : mark);
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

if (data.modules.length) {
  const titles = data.modules.flatMap(({ winners }, i) => winners.map(({ title }, j) => [`${i} ${j}`, title]));
  choose(one("#modules-winner"), titles, drawModules);
  one("#modules-panels").addEventListener("pointerover", nameUtterance);
  drawModules();
}

if (data.groups.length) {
  const titles = data.groups.map((group, i) => [i, group.title]);
  const several = titles.filter(([i]) => data.groups[i].names.length);
  const trained = titles.filter(([i]) => data.groups[i].trials[0][2].length);
  choose(one("#curves-group"), trained, drawCurves);
  choose(one("#coordinates-group"), several.length ? several : titles, drawCoordinates);
  choose(one("#coordinates-condition"), data.conditions.entries(), drawCoordinates);
  one("#coordinates-best").addEventListener("input", drawCoordinates);
  if (trained.length) drawCurves();
  else one("#curves").hidden = one("a[href='#curves']").hidden = true;
  drawCoordinates();
}
if (data.sweeps.length) drawSweeps();

// What is turned or resized is drawn anew; what is printed shows all tables.

let drawnAt = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === drawnAt) return;
  drawnAt = innerWidth;
  for (const curves of all(".row-curves")) curves.replaceChildren();
  for (const body of bodies.filter((each) => !one(".details", each).hidden)) drawDetails(body);
  if (data.groups.length) {
    drawCurves();
    drawCoordinates();
  }
  if (data.sweeps.length) drawSweeps();
});

let closed = [];
addEventListener("beforeprint", () => {
  closed = all("details:not([open])");
  for (const each of closed) each.open = true;
});
addEventListener("afterprint", () => {
  for (const each of closed) each.open = false;
});
