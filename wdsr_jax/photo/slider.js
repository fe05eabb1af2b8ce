// Makes the divider of a .pair follow the pointer and the arrow keys.
function sliderOf(pair) {
  const view = pair.querySelector(".view"), stage = pair.querySelector(".stage"), input = pair.querySelector("input");
  let split = 0.5, dragging = null;

  function draw() {  // the divider stands still in the view, the pictures scroll below it
    pair.style.setProperty("--split", 100 * split + "%");
    stage.style.setProperty("--cut", view.scrollLeft + split * view.clientWidth + "px");
  }
  function set(share) {
    split = Math.min(1, Math.max(0, share));
    input.value = Math.round(100 * split);
    draw();
  }
  pair.addEventListener("pointerdown", event => {
    if (event.button) return;
    const box = view.getBoundingClientRect();
    if (event.clientX > box.left + view.clientWidth || event.clientY > box.top + view.clientHeight) return;  // scroll bars
    const onDivider = event.target.className === "divider";
    const pan = !onDivider && view.classList.contains("zoomed");
    if (pan && event.pointerType === "touch") return;  // scrolls by itself
    dragging = {pan, split, x: event.clientX, y: event.clientY, left: view.scrollLeft, top: view.scrollTop};
    pair.setPointerCapture(event.pointerId);
    input.focus({preventScroll: true, focusVisible: false});
    event.preventDefault();
    if (!pan) set((event.clientX - box.left) / view.clientWidth);
  });
  pair.addEventListener("pointermove", event => {
    if (!dragging) return;
    if (dragging.pan) {
      view.scrollTo(dragging.left + dragging.x - event.clientX, dragging.top + dragging.y - event.clientY);
    } else {
      set((event.clientX - view.getBoundingClientRect().left) / view.clientWidth);
    }
  });
  pair.addEventListener("pointerup", () => { dragging = null; });
  pair.addEventListener("pointercancel", () => {  // the finger scrolls the page
    if (dragging && !dragging.pan) set(dragging.split);
    dragging = null;
  });
  input.addEventListener("input", () => set(input.value / 100));
  view.addEventListener("scroll", draw);
  new ResizeObserver(draw).observe(view);

  function zoom(factor) {
    const x = (view.scrollLeft + view.clientWidth / 2) / stage.clientWidth;  // what is in the middle stays there
    const y = (view.scrollTop + view.clientHeight / 2) / stage.clientHeight;
    view.classList.toggle("zoomed", factor > 0);
    stage.style.width = factor ? factor * pair.dataset.width + "px" : "";
    view.scrollTo(x * stage.clientWidth - view.clientWidth / 2, y * stage.clientHeight - view.clientHeight / 2);
    draw();
  }
  return {zoom};
}
