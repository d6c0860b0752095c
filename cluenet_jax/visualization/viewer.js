// One image with its maps: choose a stage, a head or a decision map, move over the image.
// A pixel lights up its cluster, and in white the receptive field of its owner in that stage.
(() => {
  const palette = PALETTE_OF_CLUSTERS;

  const loaded = (url) =>
    new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => resolve(image);
      image.onerror = () => reject(new Error("a map of the image cannot be read"));
      image.src = url;
    });

  const pixels = (image) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height).data;
  };

  const numbers = async (url) => {
    const data = pixels(await loaded(url));
    return Int32Array.from({ length: data.length / 4 }, (_, i) =>
      data[4 * i] + 256 * data[4 * i + 1] + 65536 * data[4 * i + 2]);
  };

  const element = (tag, properties = {}, children = []) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  const choices = (legend, name, options, chosen, onChange) =>
    element("fieldset", {}, [
      element("legend", { textContent: legend }),
      ...options.map((text, i) =>
        element("label", {}, [
          element("input", { type: "radio", name, value: i, checked: i === chosen,
            onchange: () => onChange(i) }),
          ` ${text}`,
        ])),
    ]);

  let viewers = 0;

  const start = async (root) => {
    root.dataset.ready = "starting";
    const explanation = JSON.parse(root.dataset.explanation);
    const [width, height] = explanation.size;
    const image = pixels(await loaded(explanation.image));
    const stages = await Promise.all(explanation.stages.map(async (stage) => ({
      heads: stage.grid[0],
      cells: stage.grid[1] * stage.grid[2],
      field: await numbers(stage.field),
      clusters: await numbers(stage.clusters),
    })));
    const decisions = await Promise.all(explanation.decisions.map(async (decision) => (
      { ...decision, regions: await numbers(decision.regions) })));

    const id = `cluenet-viewer-${viewers++}`;
    const scale = Math.max(1, Math.ceil(480 / Math.max(width, height)));
    const canvas = element("canvas", { width: width * scale, height: height * scale });
    const context = canvas.getContext("2d");
    const heads = element("div");
    const tooltip = element("p", { className: "tooltip" });
    const state = { view: 0, head: 0, hover: -1 };

    const isStage = () => state.view < stages.length;
    // For the chosen view: the group of each pixel, its owner (or null), the color of a group.
    const view = () => {
      if (!isStage()) {
        const decision = decisions[state.view - stages.length];
        return { group: (p) => decision.regions[p], owner: null, decision,
          color: (g) => decision.colors[g] };
      }
      const stage = stages[state.view];
      const head = Math.min(state.head, stage.heads - 1);
      return { group: (p) => stage.clusters[head * stage.cells + stage.field[p]],
        owner: (p) => stage.field[p], color: (g) => palette[g % palette.length], head };
    };

    const draw = () => {
      const { group, owner, color } = view();
      const groups = Int32Array.from({ length: width * height }, (_, p) => group(p));
      const lit = state.hover < 0 ? -1 : groups[state.hover];
      const own = state.hover < 0 || !owner ? -1 : owner(state.hover);
      const out = context.createImageData(canvas.width, canvas.height);
      for (let y = 0; y < canvas.height; y++) {
        for (let x = 0; x < canvas.width; x++) {
          const [column, row] = [Math.floor(x / scale), Math.floor(y / scale)];
          const p = row * width + column, to = 4 * (y * canvas.width + x);
          // The first pixel row and column of a cell, where the neighbor differs.
          const edge = (x % scale === 0 && column > 0 && groups[p] !== groups[p - 1]) ||
            (y % scale === 0 && row > 0 && groups[p] !== groups[p - width]);
          const rgb = color(groups[p]);
          const shown = lit < 0 ? 0.5 : groups[p] === lit ? 0.25 : 0.8;
          for (let c = 0; c < 3; c++) {
            let value = image[4 * p + c] * (1 - shown) + rgb[c] * shown;
            if (lit >= 0 && groups[p] !== lit) value = 0.35 * value;
            if (own >= 0 && owner(p) === own) value = 0.3 * value + 0.7 * 255;
            out.data[to + c] = edge ? 0 : value;
          }
          out.data[to + 3] = 255;
        }
      }
      context.putImageData(out, 0, 0);
      describe(groups, lit, own);
    };

    const describe = (groups, lit, own) => {
      const { owner, decision, head } = view();
      if (lit < 0) {
        tooltip.textContent = "Move over the image: a pixel lights up its cluster" +
          (owner ? " and, in white, its receptive field." : ".");
        return;
      }
      const inCluster = groups.reduce((sum, g) => sum + (g === lit), 0);
      const size = (n) => `${n} pixels (${(100 * n / groups.length).toFixed(1)} %)`;
      const position = `Row ${Math.floor(state.hover / width)}, column ${state.hover % width}`;
      if (decision) {
        const [drop, keep] = decision.dropKeep[lit];
        tooltip.textContent = `${position}: region ${lit}, ${size(inCluster)}\n` +
          `importance ${((drop + keep) / 2).toFixed(3)} for ${explanation.targetName}: ` +
          `drop ${drop.toFixed(3)}, keep ${keep.toFixed(3)}`;
        return;
      }
      let inField = 0;
      for (let p = 0; p < groups.length; p++) inField += owner(p) === own;
      tooltip.textContent = `${position}: cluster ${lit} of head ${head}, ${size(inCluster)}\n` +
        `receptive field of pixel ${own} of stage ${state.view + 1}: ${size(inField)}`;
    };

    const choose = () => {
      const count = isStage() ? stages[state.view].heads : 0;
      heads.replaceChildren(...(count > 1 ? [choices("Head", `${id}-head`,
        Array.from({ length: count }, (_, i) => String(i)), Math.min(state.head, count - 1),
        (i) => { state.head = i; draw(); })] : []));
      draw();
    };

    canvas.addEventListener("mousemove", (event) => {
      const box = canvas.getBoundingClientRect();
      const column = Math.floor((event.clientX - box.left) / box.width * width);
      const row = Math.floor((event.clientY - box.top) / box.height * height);
      const inside = column >= 0 && row >= 0 && column < width && row < height;
      const hover = inside ? row * width + column : -1;
      if (hover !== state.hover) { state.hover = hover; draw(); }
    });
    canvas.addEventListener("mouseleave", () => { state.hover = -1; draw(); });

    const views = [...stages.map((_, i) => `stage ${i + 1}`),
      ...decisions.map((decision) => `decision, K = ${decision.count}`)];
    const scores = element("table", {}, explanation.entries.map(([name, score]) =>
      element("tr", {}, [
        element("th", { textContent: name }),
        element("td", { textContent: `${(100 * score).toFixed(1)} %` }),
        element("td", {}, [element("div", { className: "bar",
          style: `width: ${Math.max(1, Math.round(100 * score))}px` })]),
      ])));
    const drawing = explanation.drawing
      ? [element("img", { src: explanation.drawing, alt: "the model's answer" })] : [];
    root.replaceChildren(canvas, ...drawing, element("div", { className: "side" }, [
      choices("Show", `${id}-view`, views, 0, (i) => { state.view = i; choose(); }),
      heads, tooltip, element("p", { textContent: explanation.note }), scores]));
    choose();
    root.dataset.ready = "yes";
  };

  const startAll = () => {
    for (const root of document.querySelectorAll(".cluenet-viewer:not([data-ready])")) {
      start(root).catch((error) => { root.textContent = error.message; });
    }
  };

  const open = (row) => {
    const dialog = document.querySelector("dialog");
    const close = element("button", { textContent: "Close", onclick: () => dialog.close() });
    dialog.replaceChildren(row.querySelector("template").content.cloneNode(true), close);
    dialog.showModal();
  };

  const begin = () => {
    startAll();
    new MutationObserver(startAll).observe(document.body, { childList: true, subtree: true });
    for (const row of document.querySelectorAll(".cluenet-report .row")) {
      row.addEventListener("click", () => open(row));
      row.addEventListener("keydown", (event) => { if (event.key === "Enter") open(row); });
    }
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
