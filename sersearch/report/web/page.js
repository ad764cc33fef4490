// The leaderboard: sorted by its headings, searched and filtered, opened row by row, with the columns that are chosen.

const forms = all(".board");
const bodies = all(".board > tbody");
const shownForm = () => forms.find((table) => !table.hidden);

function sortBy(header, button) {
  const table = header.closest("table");
  const numeric = button.dataset.kind === "number";
  const before = header.getAttribute("aria-sort");
  const descending = before === "none" ? numeric && header.dataset.column !== "place" : before === "ascending";
  for (const other of all("th[aria-sort]", table)) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const column = header.cellIndex;
  const value = (body) => {
    const cell = body.rows[0].cells[column];
    return numeric ? cell.dataset.value : cell.textContent.trim();
  };
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
    // Rows without a figure come last in both directions.
    if (x === "" || y === "") return (x === "") - (y === "");
    const order = numeric ? x - y : x.localeCompare(y, "en", { numeric: true });
    return descending ? -order : order;
  };
  table.append(...[...table.tBodies].sort(compare));
}

for (const button of all(".board th button")) {
  button.addEventListener("click", () => sortBy(button.closest("th"), button));
}

function filter() {
  const words = one("[name=search]").value.toLowerCase().split(/\s+/).filter(Boolean);
  const chosen = all(".filters select[name]").filter((select) => select.value);
  for (const body of bodies) {
    const text = body.rows[0].textContent.toLowerCase();
    const fits = chosen.every((select) => body.dataset[select.name].split("|").includes(select.value));
    body.hidden = !fits || !words.every((word) => text.includes(word));
  }
  const rows = [...shownForm().tBodies];
  const shown = rows.filter((body) => !body.hidden).length;
  one("#count").value = `${shown === rows.length ? "" : `${shown} of `}${rows.length} row${rows.length === 1 ? "" : "s"}`;
}

// The details of a row exist once and move to where they are shown.

function open(body) {
  one(".slot", body).append(...body.dataset.details.trim().split(" ").map((number) => one(`#detail-${number}`)));
  one(".details", body).hidden = false;
  one(".toggle button", body).setAttribute("aria-expanded", "true");
  drawDetails(body);
}

function close(body) {
  one("#details").append(...one(".slot", body).children);
  one(".details", body).hidden = true;
  one(".toggle button", body).setAttribute("aria-expanded", "false");
}

const isOpen = (body) => !one(".details", body).hidden;

function drawDetails(body) {
  for (const curves of all(".row-curves", body)) {
    if (!curves.hasChildNodes()) drawRow(curves, data.rows[curves.dataset.row]);
  }
}

for (const body of bodies) {
  one(".entry", body).addEventListener("click", (event) => {
    if (event.target.closest("button") || String(getSelection()) === "") (isOpen(body) ? close : open)(body);
  });
}

function showForm() {
  for (const body of bodies.filter(isOpen)) close(body);
  for (const table of forms) table.hidden = table.id !== one("#form").value;
  listColumns();
  filter();
}

function listColumns() {
  const list = one("#columns");
  list.replaceChildren();
  for (const header of all("th[data-column]", shownForm())) {
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = !header.hidden;
    box.addEventListener("change", () => {
      const column = all("[data-column]", shownForm()).filter((cell) => cell.dataset.column === header.dataset.column);
      for (const cell of column) {
        cell.hidden = !box.checked;
        cell.classList.toggle("chosen", box.checked);
      }
    });
    label.append(box, header.textContent);
    list.append(label);
  }
}

if (forms.length) {
  one("[name=search]").addEventListener("input", filter);
  for (const select of all(".filters select[name]")) select.addEventListener("change", filter);
  one("#form")?.addEventListener("change", showForm);
  one(".filters").addEventListener("submit", (event) => event.preventDefault());
  one("#download").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([data.csv], { type: "text/csv" }));
    link.download = "leaderboard.csv";
    link.click();
    URL.revokeObjectURL(link.href);
  });
  listColumns();
  filter();
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

// The charts follow their selects.

function choose(select, entries, changed) {
  for (const [value, title] of entries) select.add(new Option(title, value));
  select.addEventListener("change", changed);
}

const hide = (section) => (one(`#${section}`).hidden = one(`a[href='#${section}']`).hidden = true);

if (data.modules.length) {
  const titles = data.modules.flatMap(({ winners }, i) => winners.map(({ title }, j) => [`${i} ${j}`, title]));
  choose(one("#modules-winner"), titles, drawModules);
  one("#modules-panels").addEventListener("pointerover", nameUtterance);
  drawModules();
}

let drawAll = () => {};
if (data.groups.length) {
  const titles = data.groups.map((group, i) => [i, group.title]);
  const several = titles.filter(([i]) => data.groups[i].names.length);
  const trained = titles.filter(([i]) => data.groups[i].trials[0][CURVES].validation_loss);
  const figures = Object.entries(FIGURES).filter(([name]) => !isUa(name) || data.conditions.includes(name.slice(3)));
  choose(one("#curves-group"), trained, drawCurves);
  choose(one("#curves-figure"), figures.map(([name, [title]]) => [name, title]), drawCurves);
  choose(one("#cost-kind"), COSTS.map(([title], i) => [i, title]), drawCost);
  choose(one("#cost-condition"), data.conditions.entries(), drawCost);
  choose(one("#coordinates-group"), several.length ? several : titles, drawCoordinates);
  choose(one("#coordinates-condition"), data.conditions.entries(), drawCoordinates);
  choose(one("#history-group"), titles, drawHistory);
  choose(one("#history-condition"), data.conditions.entries(), drawHistory);
  one("#coordinates-best").addEventListener("input", drawCoordinates);
  if (!trained.length) hide("curves");
  drawAll = () => {
    if (trained.length) drawCurves();
    for (const drawSection of [drawCost, drawCoordinates, drawImportance, drawHistory]) drawSection();
    if (data.sweeps.length) drawSweeps();
  };
  drawAll();
} else if (data.sweeps.length) drawSweeps();

// What is turned or resized is drawn anew; what is printed shows all tables.

let drawnAt = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === drawnAt) return;
  drawnAt = innerWidth;
  for (const curves of all(".row-curves")) curves.replaceChildren();
  for (const body of bodies.filter(isOpen)) drawDetails(body);
  drawAll();
});

let closed = [];
addEventListener("beforeprint", () => {
  closed = all("details:not([open]):not(.columns)");
  for (const each of closed) each.open = true;
});
addEventListener("afterprint", () => {
  for (const each of closed) each.open = false;
});
