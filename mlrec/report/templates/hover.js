// Show a figure's values next to the pointer, and one by one with the arrow keys. Without this
// script, browsers show the titles of the marks instead.
for (const plot of document.querySelectorAll(".plot")) {
  const svg = plot.querySelector("svg");
  const series = [...plot.querySelectorAll(".marks > g")].map((group) => [...group.children]);
  const marks = series.flat();
  if (!marks.length) continue;
  const tip = plot.appendChild(document.createElement("output"));
  tip.className = "tip";
  tip.hidden = true;
  for (const mark of marks) {
    const title = mark.querySelector("title");
    mark.dataset.value = title.textContent;
    title.remove();
  }
  const boxes = marks.map((mark) => mark.getBBox());
  let shown = null;

  const show = (mark) => {
    if (shown) shown.classList.remove("shown");
    shown = mark;
    tip.hidden = !mark;
    if (!mark) return;
    mark.classList.add("shown");
    tip.textContent = mark.dataset.value;
    const at = mark.getBoundingClientRect(), frame = plot.getBoundingClientRect();
    const middle = at.left + at.width / 2 - frame.left - tip.offsetWidth / 2;
    const above = at.top - frame.top - tip.offsetHeight - 6;
    tip.style.left = `${Math.max(0, Math.min(middle, frame.width - tip.offsetWidth))}px`;
    tip.style.top = `${above < 0 ? at.bottom - frame.top + 6 : above}px`;
  };

  const outside = (value, start, size) => Math.max(start - value, 0, value - start - size);
  const nearest = (event) => {
    const { x, y } = new DOMPoint(event.clientX, event.clientY)
      .matrixTransform(svg.getScreenCTM().inverse());
    let best = null, least = 24;
    boxes.forEach((box, index) => {
      // The distance to the middle decides between boxes that overlap.
      const middle = Math.hypot(x - box.x - box.width / 2, y - box.y - box.height / 2);
      const distance = Math.hypot(outside(x, box.x, box.width), outside(y, box.y, box.height))
        + middle / 1000;
      if (distance < least) [best, least] = [marks[index], distance];
    });
    return best;
  };
  plot.addEventListener("pointermove", (event) => show(nearest(event)));
  plot.addEventListener("pointerdown", (event) => show(nearest(event)));
  plot.addEventListener("pointerleave", () => show(null));

  plot.tabIndex = 0;
  plot.setAttribute("role", "group");
  plot.setAttribute("aria-label", "Figure. The arrow keys show its values.");
  plot.addEventListener("blur", () => show(null));
  plot.addEventListener("keydown", (event) => {
    const row = Math.max(0, series.findIndex((one) => one.includes(shown)));
    const place = series[row].indexOf(shown);
    const to = {
      ArrowRight: [row, place + 1], ArrowLeft: [row, place - 1],
      ArrowDown: [row + 1, place], ArrowUp: [row - 1, place], Escape: null,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    if (!to) return show(null);
    const target = series[Math.max(0, Math.min(to[0], series.length - 1))];
    show(target[Math.max(0, Math.min(to[1], target.length - 1))]);
  });
}
