"use strict";
// Nothing here makes HTML from text: every name goes in as textContent.
(() => {
  const make = (tag, text) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const SHOWN = 200;

  for (const map of document.querySelectorAll("[data-map]")) {
    const { words, nodes } = JSON.parse(map.querySelector("script").textContent);
    const grid = map.querySelector(".grid"), squares = grid.children;
    const readout = map.querySelector(".readout"), found = map.querySelector(".found"), input = map.querySelector("input");
    const cells = ([name, op, of, sums, by], i) =>
      [String(i + 1), name, words[op], words[of] + (words[sums] ? `, sums in ${words[sums]}` : ""), words[by]];
    let on = null;
    const point = (i) => {
      if (on) on.classList.remove("on");
      on = squares[i];
      on.classList.add("on");
      const [number, name, op, of, by] = cells(nodes[i], i);
      readout.textContent = `${number}. ${name} (${op}): ${of}. Decided by: ${by}.`;
    };
    const at = (event) => {
      const square = event.target.closest("i");
      if (square && square.parentElement === grid) point(Array.prototype.indexOf.call(squares, square));
    };
    grid.addEventListener("pointerover", at);
    grid.addEventListener("click", at);
    const search = () => {
      const wanted = input.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
      map.classList.toggle("searching", wanted.length > 0);
      found.textContent = "";
      if (!wanted.length) return;
      const table = make("table"), body = make("tbody");
      let hits = 0;
      nodes.forEach((node, i) => {
        const row = cells(node, i), text = row.slice(1).join(" ").toLowerCase();
        const hit = wanted.every((word) => text.includes(word));
        squares[i].classList.toggle("hit", hit);
        if (!hit) return;
        hits += 1;
        if (hits > SHOWN) return;
        const line = make("tr");
        for (const cell of [row[1], row[2], row[3], row[4]]) line.append(make("td", cell));
        line.addEventListener("pointerover", () => point(i));
        body.append(line);
      });
      const more = hits > SHOWN ? `, the first ${SHOWN} are listed` : "";
      found.append(make("p", `${hits} of ${nodes.length} nodes${more}`), table);
      const head = make("tr");
      for (const title of ["Node", "Operator", "Type", "Decided by"]) head.append(make("th", title));
      table.append(head, body);
      if (!hits) table.remove();
    };
    input.addEventListener("input", search);
  }

  for (const plot of document.querySelectorAll("[data-drift]")) {
    const nodes = JSON.parse(plot.querySelector("script").textContent);
    const readout = plot.querySelector(".readout"), cursors = plot.querySelectorAll(".cursor");
    const at = (event) => {
      const svg = event.target.closest("svg");
      if (!svg) return;
      const box = svg.getBoundingClientRect();
      const i = Math.max(0, Math.min(nodes.length - 1, Math.floor((event.clientX - box.left) / box.width * nodes.length)));
      const [name, op, of, error, absmax, sample, broken] = nodes[i];
      const x = (i + 0.5) * 1000 / nodes.length;
      for (const cursor of cursors) cursor.setAttribute("d", `M${x} 0V1000`);
      readout.textContent = `${i + 1}. ${name} (${op}, ${of}): error ${error} in sample ${sample}, magnitude ${absmax}` +
        (broken ? `; ${broken}` : "");
    };
    plot.addEventListener("pointermove", at);
    plot.addEventListener("click", at);
  }

  // A printed page shows what is folded away; afterwards it is as before.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
  });
})();
