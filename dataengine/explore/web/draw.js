// What a sample says, drawn over its pictures: masks on a canvas, all else as SVG in shares of the picture's size.

const SVG = "http://www.w3.org/2000/svg";
const MOST_CANVAS = 1600; // pixels of a side
const OPACITY = 110; // of 255
const PALETTE = ["#e63946", "#1d78cd", "#ffb703", "#2a9d50", "#9b5de5", "#00b4d8", "#f47228", "#d63384", "#6e9614", "#146e6e",
  "#964b23", "#5a5ac8"];
export const LAYERS = ["boxes", "masks", "keypoints", "regions", "findings", "names"];

/** Return where each run of a COCO run-length code ends (background first), at most `total` pixels in all. */
export function runEnds(counts, total) {
  const ends = [], runs = [];
  let end = 0;
  for (let i = 0; i < counts.length && end < total;) {
    let value = 0, shift = 0, code = 0x20;
    while (code & 0x20 && i < counts.length && shift < 35) {
      code = counts.charCodeAt(i++) - 48;
      value |= (code & 0x1f) << shift;
      shift += 5;
    }
    if (code & 0x10 && shift < 32) value |= -1 << shift;
    if (runs.length > 2) value += runs[runs.length - 2];
    if (value < 0) break; // no code has such a run
    runs.push(value);
    end = Math.min(end + value, total);
    ends.push(end);
  }
  return ends;
}

/** Colour the pixels of a mask on a canvas's pixels, RGBA [height, width], at the canvas's scale. */
export function paintMask(pixels, width, height, rle, color) {
  const [rows, columns] = rle.size;
  if (!(rows > 0 && columns > 0)) return;
  const ends = runEnds(rle.counts, rows * columns);
  const [red, green, blue] = rgb(color);
  let run = 0;
  for (let x = 0; x < width; x++) {
    const start = Math.floor(((x + 0.5) * columns) / width) * rows;
    while (run < ends.length && ends[run] <= start) run++;
    for (let at = run; at < ends.length; at++) {
      const from = Math.max(at ? ends[at - 1] : 0, start) - start;
      if (from >= rows) break;
      if (at % 2 === 0) continue; // background
      const to = Math.min(ends[at] - start, rows);
      // The pixels of the canvas whose middle lies in the run.
      const last = Math.ceil((to * height) / rows - 0.5);
      for (let y = Math.max(Math.ceil((from * height) / rows - 0.5), 0); y < last; y++) {
        const place = 4 * (y * width + x);
        pixels[place] = red;
        pixels[place + 1] = green;
        pixels[place + 2] = blue;
        pixels[place + 3] = OPACITY;
      }
    }
  }
}

function rgb(color) {
  const value = parseInt(color.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

export function svg(name, attributes, text) {
  const one = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
  if (text !== undefined) one.textContent = text;
  return one;
}

const share = (value, total) => `${((100 * value) / total).toFixed(4)}%`;

/** Return a box as SVG, with its name where it has one. */
export function boxOf(box, size, color, dashed, name) {
  const group = svg("g", {});
  const [x0, y0, x1, y1] = box;
  group.append(svg("rect", {
    x: share(x0, size.width), y: share(y0, size.height), width: share(Math.max(x1 - x0, 0), size.width),
    height: share(Math.max(y1 - y0, 0), size.height), fill: "none", stroke: color, "stroke-width": 2, class: dashed ? "dashed" : "",
  }));
  if (name) {
    const [red, green, blue] = rgb(color);
    const bright = 0.299 * red + 0.587 * green + 0.114 * blue > 150;
    const low = y0 / size.height < 0.04;
    group.append(svg("text", {
      x: share(Math.min(Math.max(x0, 0), size.width), size.width), y: share(Math.max(y0, 0), size.height), dx: 3, dy: low ? 13 : -4,
      fill: bright ? "#000" : "#fff", stroke: color,
    }, name.length > 40 ? `${name.slice(0, 39)}…` : name));
  }
  return group;
}

function poseOf(points, skeleton, size) {
  const group = svg("g", {});
  for (const [a, b] of skeleton) {
    if (!(points[a] && points[b] && points[a][2] && points[b][2])) continue;
    group.append(svg("line", {
      x1: share(points[a][0], size.width), y1: share(points[a][1], size.height), x2: share(points[b][0], size.width),
      y2: share(points[b][1], size.height), stroke: "#fff", "stroke-width": 2,
    }));
  }
  points.forEach(([x, y, seen], number) => {
    if (!seen) return;
    const color = PALETTE[number % PALETTE.length];
    // A hidden keypoint is a ring, a visible one a disc.
    group.append(svg("circle", {
      cx: share(x, size.width), cy: share(y, size.height), r: 4, fill: seen === 2 ? color : "none",
      stroke: seen === 2 ? "#fff" : color, "stroke-width": 1.5,
    }));
  });
  return group;
}

/** Return what a sample marks on one of its pictures, by layer: whether there is anything, and how to draw it. */
export function layersOf(shown, number) {
  const sample = shown.sample, found = Object.fromEntries(LAYERS.map((name) => [name, []]));
  const objects = number === shown.object_image ? sample.targets.instances ?? [] : [];
  for (const one of objects) {
    const color = shown.colors[one.label], name = one.ignore ? `${one.label} (ignored)` : one.label;
    found.boxes.push({ box: one.box, color, dashed: one.ignore, name, label: one.label });
    if (one.mask) found.masks.push({ mask: one.mask, color, label: one.label });
    if (one.keypoints) found.keypoints.push({ points: one.keypoints, label: one.label });
  }
  (sample.regions ?? []).forEach((region, place) => {
    if ((region.image ?? 0) !== number) return;
    const label = `region${place + 1}`, color = shown.colors[label];
    found.regions.push({ box: region.box, mask: region.mask, color, dashed: true, name: `${label} (${region.kind})`, label });
  });
  for (const one of shown.findings ?? []) {
    if (one.box && one.image === shown.pictures[number].path) {
      found.findings.push({ box: one.box, color: "#e60000", dashed: true, name: one.rule, label: "" });
    }
  }
  return found;
}

/** Draw over a picture's frame what is switched on; `off` are labels that are hidden. */
export function overlay(frame, shown, number, on, off) {
  const size = shown.pictures[number], layers = layersOf(shown, number);
  const visible = (some) => some.filter((one) => !off.has(one.label));
  const masks = [...(on.masks ? visible(layers.masks) : []), ...(on.regions ? visible(layers.regions).filter((one) => one.mask) : [])];
  const drawn = svg("svg", { "aria-hidden": "true" });
  for (const name of ["boxes", "regions", "findings"]) {
    if (on[name]) for (const one of visible(layers[name])) drawn.append(boxOf(one.box, size, one.color, one.dashed, on.names && one.name));
  }
  if (on.keypoints) for (const one of visible(layers.keypoints)) drawn.append(poseOf(one.points, shown.skeleton, size));
  frame.querySelectorAll("svg, canvas").forEach((one) => one.remove());
  if (masks.length) frame.append(maskCanvas(masks, size));
  frame.append(drawn);
}

function maskCanvas(masks, size) {
  const scale = Math.min(1, MOST_CANVAS / Math.max(size.width, size.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(Math.round(size.width * scale), 1);
  canvas.height = Math.max(Math.round(size.height * scale), 1);
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  for (const one of masks) paintMask(image.data, canvas.width, canvas.height, one.mask, one.color);
  context.putImageData(image, 0, 0);
  return canvas;
}
