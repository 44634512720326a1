"use strict";
(() => {
  // Everything that a guest wrote reaches the page as text (textContent), never as markup.
  const $ = (id) => document.getElementById(id);
  const words = JSON.parse($("d-words").textContent);

  // --- the data: groups of JSON lines, packed; a group is unpacked when the first of its lines is asked for ------
  const linesOf = (id) => { const text = $(id).content.textContent; return text ? text.split("\n") : []; };
  const unpack = async (packed) => {
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return (await new Response(stream).text()).split("\n");
  };
  const shelf = (id) => {
    const values = new Map();
    let groups = null;
    const found = () => {
      let first = 0;
      groups = linesOf(id).map((text) => {
        const blank = text.indexOf(" "), group = { first, packed: text.slice(blank + 1), lines: null };
        first += Number(text.slice(0, blank));
        return group;
      });
    };
    return {
      at: (i) => values.get(i),
      async load(i) {
        if (values.has(i)) return;
        if (!groups) found();
        const group = groups.findLast((each) => each.first <= i);
        group.lines ??= unpack(group.packed);
        values.set(i, JSON.parse((await group.lines)[i - group.first]));
      },
    };
  };
  const cellShelf = shelf("d-cells"), attemptShelf = shelf("d-attempts"), textShelf = shelf("d-texts"), metaShelf = shelf("d-meta");
  const cellAt = (i) => cellShelf.at(i), attemptAt = (i) => attemptShelf.at(i);
  let images = null;
  const imageAt = (i) => { images ??= linesOf("d-images"); return "data:image/png;base64," + images[i]; };
  const load = async (i) => {
    await Promise.all([cellShelf.load(i), metaShelf.load(0)]);
    const shown = cellAt(i).shown ?? {}, all = [...(shown.attempts ?? []), ...(shown.controls ?? [])];
    await Promise.all(all.map(attemptShelf.load));
    for (const a of all.map(attemptAt)) {
      a.pictures?.forEach((p, k) => { p.data = a.images[k]; });
      a.excerpts?.forEach((x, k) => { x.data = a.texts[k]; });
    }
    const texts = all.flatMap((each) => attemptAt(each).texts).filter((x) => x !== null);
    await Promise.all(texts.map(textShelf.load));
  };

  let lang = "en", written = "en", at = null, picked = null;
  const known = (key) => Object.hasOwn(words, key);
  const w = (key, values = {}) => {
    if (!known(key)) return key;
    return words[key][lang].replace(/\{(\w+)\}/g, (all, name) => (name in values ? String(values[name]) : all));
  };
  const either = (prefix, value) => (known(prefix + value) ? w(prefix + value) : String(value));
  const stage = (kind) => either("st.", kind);
  const num = (value, digits = 2) => Number(value).toLocaleString(lang, { maximumFractionDigits: digits });
  const secs = (value, digits = 2) => w("seconds", { s: num(value, digits) });
  const when = (iso) => {
    const time = new Date(iso);
    if (Number.isNaN(time.getTime())) return iso;
    return new Intl.DateTimeFormat(lang, { dateStyle: "medium", timeStyle: "short" }).format(time);
  };

  const GROUPS = {
    COMPATIBLE: "good", DETECTED: "warn", QUARANTINED: "bad", BLOCKED: "bad", BROKEN: "bad", BUILD_FAULT: "fault",
    INCONCLUSIVE: "unknown", UNSUPPORTED: "neutral",
  };

  const h = (tag, props, ...children) => {
    const el = document.createElement(tag);
    for (const [name, value] of Object.entries(props ?? {})) {
      if (value === undefined || value === null || value === false) continue;
      if (name === "class") el.className = value;
      else if (name === "onclick") el.addEventListener("click", value);
      else el.setAttribute(name, value === true ? "" : value);
    }
    for (const child of children.flat(Infinity)) {
      if (child !== undefined && child !== null && child !== false) el.append(child);
    }
    return el;
  };
  const glyph = (o) => h("span", { class: "glyph", "data-o": o, "aria-hidden": "true" });
  const pill = (o, text) => h("span", { class: "pill " + GROUPS[o] }, glyph(o), text ?? w("o." + o));
  const mono = (text) => h("code", null, text);

  // --- language ------------------------------------------------------------------------------------------------
  // The address after '#': name=value&... A '+' is a plus: ids of cells hold it, and people paste them.
  const READABLE = /%(?:2B|2F|40|3A|2C)/g;
  const spelled = (value) => encodeURIComponent(value).replace(READABLE, decodeURIComponent);
  const plain = (text) => { try { return decodeURIComponent(text); } catch { return text; } };
  const fragment = () => {
    const asked = new Map();
    for (const part of location.hash.slice(1).split("&")) {
      const cut = part.indexOf("=");
      if (cut < 1) continue;
      const name = plain(part.slice(0, cut));
      asked.set(name, [...(asked.get(name) ?? []), plain(part.slice(cut + 1))]);
    }
    return asked;
  };
  const address = (pairs) => "#" + pairs.map(([name, value]) => name + "=" + spelled(value)).join("&");
  let keeping = 0;
  const keep = () => {
    clearTimeout(keeping);
    const pairs = [["lang", lang], ...[...only].map((o) => ["outcome", o])];
    for (const id of ["product", "build"]) if ($(id).value) pairs.push([id, $(id).value]);
    if ($("filter").value.trim()) pairs.push(["text", $("filter").value.trim()]);
    if (at !== null) pairs.push(["cell", places.get(at).id]);
    history.replaceState(null, "", address(pairs));
  };
  const speak = (to) => {
    lang = to;
    document.documentElement.lang = to;
    for (const el of document.querySelectorAll("[data-w]")) {
      el.textContent = w(el.dataset.w, el.dataset);
    }
    for (const el of document.querySelectorAll("[data-w-label]")) el.setAttribute("aria-label", w(el.dataset.wLabel));
    for (const el of document.querySelectorAll("[data-w-placeholder]")) el.placeholder = w(el.dataset.wPlaceholder);
    for (const el of written === to ? [] : document.querySelectorAll(".c")) {
      el.firstElementChild.textContent = w("o." + el.dataset.o);
      const where = el.querySelector("i");
      if (where) where.textContent = w("at", { stage: stage(where.dataset.s) });
    }
    for (const el of document.querySelectorAll("td[data-none]")) el.dataset.l = w("control.column");
    for (const el of document.querySelectorAll("time")) { el.textContent = when(el.dateTime); el.title = el.dateTime; }
    for (const el of document.querySelectorAll(".langs button")) el.setAttribute("aria-pressed", String(el.dataset.lang === to));
    written = to;
    count();
    if (at !== null && shownAt === at) fill();
  };

  // --- the grid ------------------------------------------------------------------------------------------------
  const seats = [], places = new Map(), tables = [];
  for (const grid of document.querySelectorAll(".grid")) {
    const scenario = grid.closest(".scenario").dataset.id;
    const columns = [...grid.tHead.rows[1].cells].slice(1).map((th) => ({ th, id: th.dataset.id, product: th.dataset.p, cells: [], hidden: false }));
    const table = { grid, columns, part: grid.closest(".scenario"), heads: [...grid.tHead.rows[0].cells].slice(1), here: null };
    table.lines = [...grid.tBodies[0].rows].map((tr) => {
      const line = { tr, build: tr.dataset.b, cells: [] };
      let td = tr.firstElementChild;
      for (const column of columns) {
        td = td.nextElementSibling;
        column.cells.push(td);
        const el = td.firstElementChild;
        if (!el.dataset.open) { line.cells.push(null); continue; }
        el.tabIndex = -1;
        const id = el.dataset.id ?? `${tr.dataset.id}/${column.id}/${scenario}`;
        const place = { el, td, table, line, column, id, on: true, i: Number(el.dataset.open), words: null };
        line.cells.push(place);
        seats.push(place);
        places.set(place.i, place);
      }
      return line;
    });
    tables.push(table);
  }
  const placeOf = (el) => places.get(Number(el.dataset.open));
  // Tab stops once in each table; the arrows move on from there.
  let here = seats[0]?.el;
  const rove = (el, focus) => {
    const table = placeOf(el).table;
    if (table.here) table.here.tabIndex = -1;
    table.here = el;
    el.tabIndex = 0;
    here = el;
    if (focus) { el.focus(); el.scrollIntoView({ block: "nearest", inline: "nearest" }); }
  };
  const settle = () => {
    const last = here;
    for (const table of tables) {
      if (table.here && placeOf(table.here).on) continue;
      const first = table.lines.flatMap((line) => line.cells).find((place) => place?.on);
      if (first) rove(first.el, false);
    }
    here = last && placeOf(last).on ? last : seats.find((place) => place.on)?.el ?? last;
  };
  settle();
  const beside = (el, key, far) => {
    const place = placeOf(el), fit = (each) => each?.on, mine = place.line.cells, x = mine.indexOf(place);
    if (key === "Home") return far ? seats.find(fit) : mine.find(fit);
    if (key === "End") return far ? seats.findLast(fit) : mine.findLast(fit);
    if (key === "ArrowRight") return mine.slice(x + 1).find(fit);
    if (key === "ArrowLeft") return mine.slice(0, x).findLast(fit);
    const lines = tables.flatMap((each) => each.lines).filter((each) => each.cells.some(fit));
    const next = lines[lines.indexOf(place.line) + (key === "ArrowDown" ? 1 : -1)];
    if (!next) return undefined;
    return fit(next.cells[x]) ? next.cells[x] : next.cells.slice(0, x).findLast(fit) ?? next.cells.find(fit);
  };
  document.addEventListener("keydown", (event) => {
    const el = event.target.closest?.(".c");
    if (!el || !["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) return;
    event.preventDefault();
    const to = beside(el, event.key, event.ctrlKey);
    if (to) rove(to.el, true);
  });
  document.addEventListener("focusin", (event) => { if (event.target.classList?.contains("c")) rove(event.target, false); });
  document.addEventListener("click", (event) => {
    const opener = event.target.closest?.("[data-open]");
    if (opener) open(Number(opener.dataset.open));
  });

  // --- the filter ----------------------------------------------------------------------------------------------
  const only = new Set();
  let fits = seats.length;
  const sifted = () => only.size > 0 || $("product").value !== "" || $("build").value !== "" || $("filter").value.trim() !== "";
  const count = () => { $("fits").textContent = !sifted() ? "" : fits ? w("filter.shown", { n: fits, all: seats.length }) : w("filter.none"); };
  const wordsOf = (place) => (place.words ??= [place.id, place.line.tr.cells[0].textContent, place.column.th.title].join(" ").toLowerCase());
  const sift = () => {
    const asked = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const product = $("product").selectedIndex - 1, build = $("build").selectedIndex - 1, some = sifted();
    fits = 0;
    for (const table of tables) {
      const used = new Set();
      for (const line of table.lines) {
        let any = false;
        for (const place of line.cells) {
          if (!place) continue;
          const on = (product < 0 || Number(place.column.product) === product) && (build < 0 || Number(line.build) === build)
            && (!only.size || only.has(place.el.dataset.o)) && asked.every((word) => wordsOf(place).includes(word));
          if (on !== place.on) place.td.classList.toggle("off", !on);
          place.on = on;
          if (!on) continue;
          fits += 1;
          any = true;
          used.add(place.column);
        }
        line.tr.hidden = some && !any;
      }
      for (const column of table.columns) {
        const hidden = some && !used.has(column);
        if (hidden === column.hidden) continue;
        column.hidden = hidden;
        for (const el of [column.th, ...column.cells]) el.hidden = hidden;
      }
      const seen = table.columns.filter((column) => !column.hidden);
      let place = 0;
      for (const head of table.heads) {
        const span = Number(head.dataset.span ??= head.colSpan);
        const left = table.columns.slice(place, place + span).filter((column) => !column.hidden).length;
        place += span;
        head.hidden = left === 0;
        if (left) { head.colSpan = left; head.style.gridColumn = "span " + left; }
      }
      table.grid.parentElement.style.setProperty("--n", String(seen.length));
      for (const name of ["broad", "wide"]) table.grid.classList.toggle(name, seen.length > Number(table.grid.dataset[name]));
      table.part.hidden = some && !seen.length;
    }
    $("clear").hidden = !some;
    count();
    settle();
  };
  const changed = () => { sift(); clearTimeout(keeping); keeping = setTimeout(keep, 200); };
  const press = () => { for (const el of document.querySelectorAll("[data-filter]")) el.setAttribute("aria-pressed", String(only.has(el.dataset.filter))); };
  for (const id of ["filter", "product", "build"]) $(id).addEventListener("input", changed);
  for (const el of document.querySelectorAll("[data-filter]")) {
    el.addEventListener("click", () => {
      if (!only.delete(el.dataset.filter)) only.add(el.dataset.filter);
      press();
      changed();
    });
  }
  $("clear").addEventListener("click", () => {
    for (const id of ["filter", "product", "build"]) $(id).value = "";
    only.clear();
    press();
    changed();
    $("filter").focus();
  });

  // --- the panel -----------------------------------------------------------------------------------------------
  const panel = $("panel"), zoom = $("zoom");
  let shownAt = null; // the cell that the panel has been filled with
  const mark = (i) => {
    places.get(at)?.el.removeAttribute("aria-current");
    at = i;
    places.get(at)?.el.setAttribute("aria-current", "true");
  };
  const open = async (i) => {
    if (!places.has(i)) return;
    mark(i);
    picked = null;
    let trouble = false;
    try { await load(i); } catch { trouble = true; }
    if (at !== i) return; // another cell was asked for meanwhile
    shownAt = i;
    rove(places.get(i).el, false);
    if (trouble) sorry(i); else fill();
    if (!panel.open) { panel.showModal(); document.body.classList.add("open"); }
    reachable();
    toFailure();
    panel.scrollTop = 0;
    $("panel-title").focus({ preventScroll: true });
    keep();
  };
  // What scrolls by itself can be reached by Tab, so that the arrow keys can scroll it.
  const reachable = () => {
    if (!panel.open) return;
    for (const el of panel.querySelectorAll(".overflow, .say, .why, .cap, dd, code, .box p")) {
      if (el.clientWidth && (el.scrollHeight > el.clientHeight + 1 || el.scrollWidth > el.clientWidth + 1)) el.tabIndex = 0;
    }
  };
  panel.addEventListener("toggle", reachable, true);
  // The picture of the step that failed is in sight, however many come before it.
  const toFailure = () => {
    const bad = panel.querySelector(".film th.bad"), film = bad?.closest(".overflow");
    if (film) film.scrollLeft = bad.offsetLeft + bad.offsetWidth - film.clientWidth;
  };
  const sorry = (i) => panel.replaceChildren(
    h("div", { class: "p-head unknown" }, h("h2", { id: "panel-title", tabindex: "-1" }, places.get(i).id), h("div", { class: "p-nav" }, h("button", { type: "button", "aria-label": w("close"), onclick: () => panel.close() }, glyph("CROSS")))),
    h("div", { class: "p-body" }, h("p", null, w("evidence.unreadable")), mono("hts-compat explain " + places.get(i).id)));
  panel.addEventListener("close", () => {
    if (panel.open) return; // opened again before the event came
    mark(null);
    shownAt = null;
    document.body.classList.remove("open");
    if (here) here.focus();
    keep();
  });
  const next = (by) => {
    const fit = seats.filter((place) => place.on || place.i === at);
    return fit[fit.findIndex((place) => place.i === at) + by]?.i;
  };
  panel.addEventListener("click", (event) => { if (event.target === panel) panel.close(); });
  panel.addEventListener("keydown", (event) => {
    if (event.target.closest("pre, summary, .overflow, .p-body [tabindex]") || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowLeft") open(next(-1));
    if (event.key === "ArrowRight") open(next(1));
  });
  zoom.addEventListener("click", (event) => { if (event.target === zoom || event.target.tagName === "IMG") zoom.close(); });

  const signatures = (c) => (c.signature_from ? c.signature_from + " → " + c.signature : c.signature);
  const isControl = (c) => c.product === c.signature;
  const title = (c) => (isControl(c) ? w("control.column") : `${c.product} ${c.profile} @ ${signatures(c)}`);
  const base = (path) => String(path).split(/[\\/]/).pop();
  const section = (name, ...body) => h("section", null, h("h3", null, name), body);
  const fact = (name, value, strong) => (value === undefined || value === null || value === "" ? null
    : h("div", null, h("dt", null, name), h("dd", { class: strong && "strong" }, value)));
  const tag = (name, value) => h("span", { class: "tag" }, name && h("b", null, name), value);
  const table = (heads, body, wide) => h("div", { class: "overflow" }, h("table", { class: wide ? "t wide" : "t" },
    h("thead", null, h("tr", null, heads.map((head) => h("th", { scope: "col" }, head)))), h("tbody", null, body)));

  const fill = () => {
    const c = cellAt(at), group = GROUPS[c.outcome];
    const where = c.stage ? w("at.after", { stage: stage(c.stage) }) : "";
    const nav = (o, label, act, disabled) => h("button", { type: "button", "aria-label": w(label), title: w(label), disabled, onclick: act }, glyph(o));
    const place = document.activeElement?.closest?.("#panel") ? document.activeElement.getAttribute("aria-label") : null;
    panel.replaceChildren(
      h("div", { class: "p-head " + group },
        h("div", null,
          pill(c.outcome, w("o." + c.outcome) + where),
          h("h2", { id: "panel-title", tabindex: "-1" }, title(c)),
          h("p", { class: "quiet" }, [c.build.name, c.build.version].join(" ") + (c.older ? " " + w("over.older", { version: c.older.version }) : "") + " · " + c.scenario + " · " + w("lab." + metaShelf.at(0).lab) + " · " + c.image)),
        h("div", { class: "p-nav" },
          nav("BACK", "previous", () => open(next(-1)), next(-1) === undefined),
          nav("FORTH", "next", () => open(next(1)), next(1) === undefined),
          nav("CROSS", "close", () => panel.close()))),
      h("div", { class: "p-body" }, parts(c)));
    reachable();
    toFailure();
    if (place) [...panel.querySelectorAll("button")].find((el) => el.getAttribute("aria-label") === place)?.focus();
  };

  const parts = (c) => {
    const shown = c.shown, list = [verdict(c)];
    const good = c.outcome === "COMPATIBLE" || c.outcome === "DETECTED";
    const happened = whatHappened(c);
    if (good) list.push(proof(c), happened); else list.push(happened, proof(c));
    list.push(wayOut(c));
    if (c.left_out) list.push(h("p", { class: "plain" }, w("evidence.left"), " ", mono(`hts-compat explain ${c.id} ${metaShelf.at(0).run}`)));
    else if (!shown) list.push(h("p", { class: "plain" }, w((c.attempts ?? []).length ? "evidence.none" : "evidence.nothing")));
    else list.push(bundle(c, shown));
    list.push(attemptsOf(c), identity(c));
    return list;
  };

  const verdict = (c) => {
    const found = (c.detections ?? [])[0];
    const control = isControl(c) && known("s." + c.outcome + ".control") ? ".control" : "";
    const say = w("s." + c.outcome + control, {
      product: c.product === "none" ? w("product.none") : c.product,
      build: c.build.name + " " + c.build.version,
      target: found?.target ? base(found.target) : w("a.file"),
      stage: c.stage ? stage(c.stage) : w("unknown"),
    });
    const tags = [
      c.blame && tag(w("blame"), either("b.", c.blame)),
      c.mechanism && tag(w("mechanism"), either("x.", c.mechanism)),
      c.cause && tag(w("cause"), either("k.", c.cause)),
      c.rule && tag(w("rule"), mono(c.rule)),
      c.flaky && tag(null, w("p.flaky")),
      c.cached_from && tag(null, w("p.cached", { run: c.cached_from })),
      c.slowdown && tag(null, w("p.slow", { x: num(c.slowdown) })),
      h("span", { class: "tag" }, mono(c.outcome)),
    ];
    return h("section", null, h("p", { class: "say" }, say),
      h("p", { class: "why" }, h("small", null, w("reason")), c.reason), h("div", { class: "tags" }, tags));
  };

  const codeOf = (code, text) => (code === undefined ? null : [String(code), code > 65535 || code < 0 ? ` (0x${(code >>> 0).toString(16).toUpperCase()})` : "", text ? " " + text : ""].join(""));
  const whatHappened = (c) => {
    const found = (c.detections ?? [])[0], step = c.failed_step;
    if (!found && !step) return null;
    const parts = Object.entries(c.signature_components ?? {}).map(([name, value]) => `${name} ${value ?? w("unknown")}`).join(", ");
    const facts = h("dl", { class: "facts" },
      found && [
        fact(w("detection"), found.threat ?? w("no.name"), true),
        fact(w("file"), mono(found.target ?? w("unknown"))),
        fact(w("component"), found.component && either("c.", found.component)),
        fact(w("action"), either("t.", found.action)),
        fact(w("mechanism"), either("x.", found.mechanism)),
        fact(w("stage"), found.stage && stage(found.stage)),
        fact(w("after"), found.after_s !== undefined && w("after.text", { s: num(found.after_s, 3) })),
        fact(w("signature.loaded"), found.signature ?? w("unknown")),
      ],
      fact(w("product"), c.product === "none" ? null : c.product + (c.product_version ? " " + c.product_version : "")),
      fact(w("components"), parts),
      step && [
        !found && fact(w("stage"), stage(step.kind)),
        fact(w("expectation"), [mono(step.expectation ?? w("unknown")), step.timed_out ? " (" + w("timed.out") + ")" : ""]),
        fact(w("code"), codeOf(step.code, step.code_text)),
        fact(w("detail"), step.detail),
      ]);
    const side = step?.dialog && dialogBox(step.dialog);
    const own = c.shown?.decider !== undefined ? attemptAt(c.shown.decider) : null;
    const pair = own && pairsOf(own, controlOf(c, own)).filter(({ own: p }) => p).reduce((best, each) => (best && step && best.step === step.index ? best : each), null);
    return section(w("what"), side ? h("div", { class: "two" }, facts, side) : facts, pair && h("div", { class: "pairs" }, pairBox(pair)));
  };
  const dialogBox = (text) => h("figure", { class: "box" }, h("figcaption", null, w("dialog")), h("p", null, text));
  // Pictures of one step: the k-th of the attempt beside the k-th of the control.
  const controlOf = (c, a) => (!isControl(c) && c.shown.control !== undefined && c.shown.attempts?.some((i) => attemptAt(i) === a) ? attemptAt(c.shown.control) : null);
  const pairsOf = (a, control) => {
    const mine = a.pictures ?? [], theirs = control?.pictures ?? [], pairs = [];
    for (const step of [...new Set([...mine, ...theirs].map((p) => p.step ?? -1))].sort((x, y) => x - y)) {
      const left = mine.filter((p) => (p.step ?? -1) === step), right = theirs.filter((p) => (p.step ?? -1) === step);
      for (let k = 0; k < Math.max(left.length, right.length); k += 1) pairs.push({ step, own: left[k], control: right[k], paired: Boolean(control) });
    }
    return pairs;
  };
  const pairBox = (pair) => h("div", { class: pair.paired ? "pair" : "pair alone" }, pictureBox(pair, "own"), pair.paired && pictureBox(pair, "control"));
  const pictureBox = (pair, side) => {
    const p = pair[side], name = pair.paired ? w(side === "own" ? "with.product" : "without.product") : w("screen");
    const caption = h("figcaption", null, h("b", null, name), p ? " " + w("screen.at", { stage: stage(p.stage), s: num(p.at_s) }) : "");
    if (!p || p.data === null) return h("figure", { class: "box" }, caption, h("p", { class: "quiet" }, p ? p.why_not ?? w("unknown") : w("screen.none")));
    return h("figure", { class: "box" }, caption, h("button", { type: "button", class: "shot", "aria-label": w("screen.open") + ": " + name, onclick: () => enlarge(pair, side) }, h("img", { src: imageAt(p.data), alt: name + ", " + stage(p.stage) })));
  };
  const enlarge = (pair, side) => {
    const p = pair[side], other = side === "own" ? "control" : "own", there = pair[other]?.data ?? null;
    const name = w(side === "own" ? "with.product" : "without.product");
    zoom.replaceChildren(h("figure", null,
      h("figcaption", null, h("span", null, (pair.paired ? name + ": " : "") + w("screen.at", { stage: stage(p.stage), s: num(p.at_s) })),
        pair.paired && there !== null && h("button", { type: "button", "data-flip": "", onclick: () => enlarge(pair, other) }, glyph(other === "own" ? "BACK" : "FORTH"), w(other === "own" ? "with.product" : "without.product")),
        h("button", { type: "button", "aria-label": w("close"), onclick: () => zoom.close() }, glyph("CROSS"))),
      h("img", { src: imageAt(p.data), alt: name + ", " + stage(p.stage) })));
    zoom.setAttribute("aria-label", w("screen"));
    if (!zoom.open) zoom.showModal();
    (zoom.querySelector("[data-flip]") ?? zoom.querySelector("button")).focus();
  };
  zoom.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    event.stopPropagation();
    zoom.querySelector("[data-flip]")?.click();
  });

  const proof = (c) => {
    const p = c.protection ?? {}, items = [];
    const say = (mark, text) => items.push(h("li", { class: { y: "good", n: "bad", q: "unknown" }[mark] }, glyph({ y: "COMPATIBLE", n: "CROSS", q: "INCONCLUSIVE" }[mark]), h("span", null, text)));
    if (!(c.attempts ?? []).length) return null;
    if (!isControl(c)) {
      const tried = (p.canaries ?? []).filter((x) => !x.excluded), alive = tried.filter((x) => x.reacted).length;
      say(!tried.length || alive < tried.length ? "n" : "y", tried.length ? w("p.canaries", { n: alive, all: tried.length }) : w("p.canaries.none"));
      const samples = p.samples ?? [], fit = samples.filter((x) => x.active && x.signature === x.scheduled).length;
      say(!samples.length || fit < samples.length ? "n" : "y", samples.length ? w("p.samples", { n: fit, all: samples.length }) : w("p.samples.none"));
      const holes = (p.exclusions ?? []).filter((x) => x.covers_tested);
      say(holes.length ? "n" : "y", w(holes.length ? "p.exclusion.some" : "p.exclusion.none"));
      if (c.control) say(c.control.outcome === "INCONCLUSIVE" ? "q" : "y", w("p.control", { outcome: w("o." + c.control.outcome) }));
      else say("n", w("p.control.none"));
      if (c.assurance) say(c.assurance === "excluded" ? "n" : "y", either("p.assurance.", c.assurance));
    }
    if (c.observed_s !== undefined) say("y", w("p.observed", { s: num(c.observed_s, 1) }));
    say(c.confirmed ? "y" : "q", w(c.confirmed ? "p.confirmed" : "p.unconfirmed"));
    if (c.flaky) say("n", w("p.flaky"));
    return section(w(c.outcome === "INCONCLUSIVE" ? "doubt" : "believe"), h("ul", { class: "proof" }, items));
  };

  const wayOut = (c) => {
    if (!c.egress) return null;
    const opened = c.egress.opened, seen = c.egress.seen, uses = new Map((seen?.used ?? []).map((u) => [u.pair, u]));
    const row = (whose) => (pair) => {
      const u = uses.get(pair);
      const failed = u && u.failed > 0 && h("div", { class: "st bad" }, glyph("CROSS"), h("span", null, w("out.failed", { n: u.failed, why: u.why ?? w("unknown") })));
      return h("tr", null, h("td", null, mono(pair)), h("td", null, whose),
        h("td", null, u ? w("out.used", { n: num(u.connections), sent: num(u.sent_bytes), got: num(u.received_bytes) }) : seen ? h("span", { class: "quiet" }, w("out.unused")) : h("span", { class: "quiet" }, "–"), failed));
    };
    const rows = [...(opened.hosts ?? []).map(row(w("out.program"))), ...(opened.private_hosts ?? []).map(row(w("out.private"))),
      ...(opened.vendor_clouds ?? []).flatMap((cloud) => cloud.hosts.map(row(w("out.cloud", { name: cloud.name, product: cloud.product }))))];
    const more = (seen?.refused_more ?? 0) + (seen?.uncounted ?? 0);
    const line = (good, text) => h("li", { class: good ? "good" : "bad" }, glyph(good ? "COMPATIBLE" : "CROSS"), h("span", null, text));
    return section(w("out"), table([w("out.host"), w("out.for"), w("out.use")], [...rows,
      ...(seen?.refused ?? []).map((r) => h("tr", null, h("td", null, mono(r.target || "–")), h("td", null, "–"), h("td", null, w("out.refused", { n: num(r.times), why: r.why }))))]),
      more > 0 && h("p", { class: "plain" }, w("out.more", { n: num(more) })),
      seen ? h("ul", { class: "proof" }, line(seen.proven, w(seen.proven ? "out.proven" : "out.unproven"))) : h("p", { class: "plain" }, w("out.unseen")));
  };

  // --- one attempt: timeline, protection, records ----------------------------------------------------------------
  const roleOf = (a) => either("r.", a.role) + (a.ordinal > 1 ? " " + a.ordinal : "");
  const bundle = (c, shown) => {
    const own = shown.attempts ?? [], controls = shown.controls ?? [], all = [...own, ...controls];
    if (!all.length) return h("p", { class: "plain" }, w("evidence.nothing"));
    const now = picked !== null && all.includes(picked) ? picked : shown.decider ?? all[0];
    const a = attemptAt(now);
    const compare = own.includes(now) && shown.control !== undefined ? attemptAt(shown.control) : null;
    const tabs = h("div", { class: "tabs", role: "group", "aria-label": w("attempts") }, all.map((i) => {
      const each = attemptAt(i);
      return h("button", { type: "button", class: GROUPS[each.outcome], "aria-pressed": String(i === now), "aria-label": roleOf(each) + " " + w("o." + each.outcome), title: w("o." + each.outcome),
        onclick: () => { picked = i; const y = panel.scrollTop; fill(); panel.scrollTop = y; } }, glyph(each.outcome), roleOf(each));
    }));
    return h("section", null, h("h3", null, w("timeline")), tabs, h("div", { class: "sub" },
      timeline(a, compare), troubles(a), protection(a), detections(a), own.includes(now) && now === shown.decider && !isControl(c) && changes(shown), pictures(a, controlOf(c, a)), logs(a)));
  };
  const sub = (name, ...body) => h("div", null, h("h4", null, name), body);
  const status = (step) => {
    if (!step) return h("span", { class: "quiet" }, "–");
    const [o, group] = { passed: ["COMPATIBLE", "good"], failed: ["CROSS", "bad"], not_run: ["UNSUPPORTED", "neutral"] }[step.status];
    return h("span", { class: "st " + group }, glyph(o), h("span", { class: "num" }, step.status === "passed" && step.duration_s !== undefined ? secs(step.duration_s) : w(step.status) + (step.duration_s !== undefined && step.status === "failed" ? " " + secs(step.duration_s) : "")));
  };
  const sampleText = (s) => {
    if (!s) return h("span", { class: "quiet" }, "–");
    const fits = s.active && s.signature === s.scheduled;
    const text = (s.signature ?? w("unknown")) + (s.active ? "" : ", " + w("inactive")) + (fits ? "" : " (" + w("scheduled", { label: s.scheduled ?? w("unknown") }) + (s.why_not ? "; " + s.why_not : "") + ")");
    return h("span", { class: "st " + (fits ? "good" : "bad") }, glyph(fits ? "COMPATIBLE" : "CROSS"), h("span", null, text));
  };
  const timeline = (a, control) => {
    const samples = new Map((a.protection?.samples ?? []).map((s) => [s.border, s])), sampled = samples.size > 0;
    const body = [];
    if (sampled) body.push(h("tr", { class: "skipped" }, h("td", { class: "word" }, w("before.first")), h("td"), control && h("td"), h("td", null, sampleText(samples.get(-1)))));
    for (const step of a.steps ?? []) {
      const failed = step.status === "failed";
      body.push(h("tr", { class: failed ? "fails" : step.status === "not_run" ? "skipped" : null },
        h("td", { class: "word" }, `${step.index + 1}. ${stage(step.kind)}`), h("td", null, status(step)),
        control && h("td", null, status((control.steps ?? []).find((s) => s.index === step.index))), sampled && h("td", null, sampleText(samples.get(step.index)))));
      if (failed) {
        const code = codeOf(step.code, step.code_text);
        body.push(h("tr", { class: "more" }, h("td", { colspan: 2 + (control ? 1 : 0) + (sampled ? 1 : 0) },
          [step.expectation && mono(step.expectation), step.timed_out && w("timed.out"), code && w("code") + " " + code, step.detail].filter(Boolean).flatMap((x, i) => (i ? [" · ", x] : [x])))));
      }
    }
    const head = [w("step"), w("with.product")];
    if (control) head.push(w("without.product") + " (" + roleOf(control) + ")");
    if (sampled) head.push(w("loaded.after"));
    const marks = [when(a.started_at), a.duration_s !== undefined && secs(a.duration_s, 1), a.provider, a.alone && w("alone"), !a.complete && w("incomplete")].filter(Boolean).join(" · ");
    return h("div", null, table(head, body), h("p", { class: "plain" }, w("attempt") + " ", mono(a.id), " · " + marks));
  };
  const list = (name, items) => (items ?? []).length > 0 && sub(name, h("ul", { class: "proof" }, items.map((x) => h("li", { class: "bad" }, glyph("CROSS"), h("span", null, x)))));
  const troubles = (a) => [
    list(w("trouble"), (a.troubles ?? []).map((t) => `${t.stage ? stage(t.stage) + ": " : ""}${t.summary ?? ""}${t.guest_crashed ? " (" + w("crashed") + ")" : ""}`)),
    list(w("unread"), a.unread), list(w("scan.failures"), a.scan_failures), list(w("modules"), a.foreign_modules),
  ];
  const protection = (a) => {
    const canaries = a.protection?.canaries ?? [], holes = a.protection?.exclusions ?? [];
    if (!canaries.length && !holes.length) return null;
    const folders = [...new Set(canaries.map((x) => x.layer + "/" + x.folder))];
    const mark = (x) => {
      const [o, group, word] = x.excluded ? ["UNSUPPORTED", "neutral", "excluded"] : x.reacted ? ["COMPATIBLE", "good", "reacted"] : ["CROSS", "bad", "silent"];
      return h("div", { class: "st " + group }, glyph(o), h("span", null, w(word), x.after_s !== undefined && x.reacted ? h("span", { class: "quiet num" }, " " + secs(x.after_s, 3)) : "", x.why_not && !x.reacted ? ": " + x.why_not : ""));
    };
    const body = folders.map((key) => {
      const [layer, folder] = key.split("/");
      return h("tr", null, h("td", { class: "word" }, either("f.", folder), layer !== "file" && h("span", { class: "quiet" }, " " + either("layer.", layer))),
        ["before", "step", "after"].map((time) => {
          const tries = canaries.filter((x) => x.layer === layer && x.folder === folder && x.when === time);
          return h("td", null, tries.length ? tries.map(mark) : h("span", { class: "quiet" }, "–"));
        }));
    });
    return sub(w("protection"), canaries.length > 0 && table([w("folder"), w("w.before"), w("w.step"), w("w.after")], body),
      holes.map((x) => h("p", { class: "plain" }, w("exclusions") + ": ", mono(x.path ?? w("unknown")), ` (${w(x.declared ? "declared" : "undeclared")}, ${w(x.covers_tested ? "covers" : "covers.not")})`)));
  };
  const detections = (a) => (a.detections ?? []).length > 0 && sub(w("detections"), table([w("detection"), w("file"), w("action"), w("stage"), w("vendor.time")],
    a.detections.map((d) => h("tr", null,
      h("td", null, h("div", { class: "cap" }, d.threat ?? w("no.name")), d.owner !== "build" && h("div", { class: "quiet" }, either("owner.", d.owner)), d.count > 1 && h("div", { class: "quiet" }, `${w("records")}: ${d.count}`)),
      h("td", null, mono(d.target ?? w("unknown")), d.raw_target && d.raw_target !== d.target && h("div", { class: "quiet" }, mono(d.raw_target)), d.accessed_by && h("div", { class: "quiet" }, w("accessed") + ": ", mono(d.accessed_by))),
      h("td", { class: "keep" }, either("t.", d.action)),
      h("td", { class: "keep" }, d.stage && stage(d.stage), d.after_s !== undefined && h("div", { class: "quiet num" }, "+" + secs(d.after_s, 3))),
      h("td", null, d.at ?? "–"))), true));
  const changes = (shown) => {
    const files = shown.files;
    if (files === undefined) return sub(w("files"), h("p", { class: "quiet" }, w("files.unknown")));
    if (!files.length) return sub(w("files"), h("p", { class: "quiet" }, w("files.same")));
    return sub(w("files"), h("ul", { class: "files" }, files.map((f) => h("li", null, h("b", null, either("d.", f.change)), mono(f.path)))));
  };
  // The filmstrip: a column a picture, in the order of the steps; what has not changed since the last picture is a word.
  const pictures = (a, control) => {
    const pairs = pairsOf(a, control);
    if (!pairs.length) return null;
    const failed = (a.steps ?? []).find((s) => s.status === "failed")?.index;
    const heads = pairs.map((pair) => h("th", { scope: "col", class: pair.step === failed ? "st bad" : null },
      pair.step === failed && glyph("CROSS"), (pair.step < 0 ? "" : pair.step + 1 + ". ") + stage((pair.own ?? pair.control).stage)));
    const row = (side, name) => {
      let last = null;
      return h("tr", null, h("th", { scope: "row" }, name), pairs.map((pair) => {
        const p = pair[side], same = Boolean(p) && p.data !== null && p.data === last;
        last = p ? p.data : last;
        if (!p || p.data === null) return h("td", { class: "quiet" }, p ? p.why_not ?? w("unknown") : "–");
        if (same) return h("td", { class: "quiet" }, w("film.same"));
        return h("td", null, h("button", { type: "button", class: "shot", "aria-label": w("screen.open") + ": " + name + ", " + stage(p.stage), onclick: () => enlarge(pair, side) },
          h("img", { src: imageAt(p.data), alt: "" })), h("span", { class: "quiet num" }, secs(p.at_s, 1)));
      }));
    };
    const rows = control ? [row("own", w("with.product")), row("control", w("without.product"))] : [row("own", w("screen"))];
    return sub(w(control ? "film.beside" : "film"), h("div", { class: "overflow" }, h("table", { class: "film" }, h("thead", null, h("tr", null, h("td"), heads)), h("tbody", null, rows))));
  };
  const logs = (a) => {
    const written = (x) => x.decisive || x.kind === "log" || x.kind === "product";
    const all = a.excerpts ?? [], looks = all.filter((x) => !written(x));
    const excerpt = (x) => {
      const body = x.data === null ? (x.why_not ?? "") : textShelf.at(x.data);
      const notes = [stage(x.stage ?? ""), x.source, "+" + secs(x.at_s), x.size_bytes !== undefined && w("bytes", { n: num(x.size_bytes) }), x.encoding, x.cut && w("cut"), x.truncated && w("truncated")].filter(Boolean).join(" · ");
      return h("details", { class: "log", open: x.decisive }, h("summary", null, mono(x.name ?? ""), " ", x.decisive && h("span", { class: "pill warn" }, w("decisive")), " ", h("span", { class: "quiet" }, notes)), h("pre", { tabindex: "0", dir: "ltr" }, body));
    };
    return all.length > 0 && sub(w("logs"), all.filter(written).map(excerpt),
      looks.length > 0 && h("details", { class: "looks" }, h("summary", null, w("looks", { n: looks.length })), looks.map(excerpt)),
      a.excerpts_left_out > 0 && h("p", { class: "plain" }, w("logs.left", { n: a.excerpts_left_out })));
  };
  const attemptsOf = (c) => {
    const own = c.attempts ?? [], controls = c.control?.attempts ?? [];
    if (!own.length && !controls.length) return null;
    const row = (a) => h("tr", null, h("td", { class: "keep" }, roleOf(a), a.id === c.decided_by && h("div", { class: "quiet" }, w("decided"))),
      h("td", { class: "keep" }, h("span", { class: "st " + GROUPS[a.outcome] }, glyph(a.outcome), h("span", null, w("o." + a.outcome))), a.stage && h("div", { class: "quiet" }, w("at", { stage: stage(a.stage) }))),
      h("td", null, h("div", { class: "cap" }, a.reason), a.rule && h("div", { class: "quiet" }, mono(a.rule))));
    return section(w("attempts"), table([w("attempt"), w("outcome"), w("reason")], [...own, ...controls].map(row), true));
  };
  const identity = (c) => section(w("identity"), h("dl", { class: "facts ids" },
    fact(w("id.cell"), h("a", { href: location.href.split("#")[0] + address([["lang", lang], ["cell", places.get(at).id]]), title: w("id.link") }, mono(c.id))), fact(w("id.key"), mono(c.key)), fact(w("id.build"), mono(c.build.sha256)), c.older && fact(w("id.older"), mono(c.older.sha256)), fact(w("id.image"), mono(c.image_content)),
    (c.evidence ?? []).length > 0 && fact(w("id.blobs"), c.evidence.map((e) => h("div", null, h("span", { class: "quiet" }, e.kind + " "), mono(e.sha256))))));

  // --- start ---------------------------------------------------------------------------------------------------
  for (const el of document.querySelectorAll("[data-lang]")) el.addEventListener("click", () => { speak(el.dataset.lang); keep(); });
  $("to-causes")?.addEventListener("click", () => $("causes-head").focus());
  const choose = (id, value) => { const box = $(id); box.value = value ?? ""; if (box.selectedIndex < 0) box.value = ""; };
  const findCell = (asked) => {
    const loose = (text) => text.replaceAll(" ", "+"); // what some programs make of a '+' in a link
    return (seats.find((place) => place.id === asked) ?? seats.find((place) => loose(place.id) === loose(asked)))?.i;
  };
  const begin = () => {
    const asked = fragment(), first = (name) => asked.get(name)?.[0];
    const wanted = first("lang") ?? (navigator.language.toLowerCase().startsWith("ko") ? "ko" : "en");
    only.clear();
    for (const o of asked.get("outcome") ?? []) if (Object.hasOwn(GROUPS, o)) only.add(o);
    press();
    choose("product", first("product"));
    choose("build", first("build"));
    $("filter").value = first("text") ?? "";
    if (sifted() || $("clear").hidden === false) sift();
    speak(wanted === "ko" ? "ko" : "en");
    const cell = first("cell"), i = cell === undefined ? undefined : findCell(cell);
    if (i !== undefined) open(i);
    else if (panel.open) panel.close();
  };
  addEventListener("hashchange", begin);
  begin();
})();
